# Completion in fish for flockfs, flockfs-run, flockfs-status and mount.flockfs.

# The value that stands behind the last "name=" of a list, or else the names; each with what stands before it.
function __flockfs_list --description 'Completes a list of -o of the program that is given'
    set -l token (commandline -ct | string replace -r '^-o' '')
    set -l before (string match -r '^.*,' -- $token)
    set -l last (string replace -r '^.*,' '' -- $token)
    set -l values
    if string match -q '*=*' -- $last
        set -l name (string replace -r '=.*' '' -- $last)
        set before "$before$name="
        switch (string replace -a - _ -- $name)
            case prefix exclude log_file
                set values (__fish_complete_path (string replace -r '^[^=]*=' '' -- $last) |
                    string replace -r '\t.*' '')
            case lock
                set values flock ofd flock+ofd flock+lockfile ofd+lockfile flock+ofd+lockfile
            case timeout
                set values -1 0 10s 1min
            case hold_warn stop_timeout
                set values 10s 60s 5min
            case on_timeout on_unsupported
                set values fail unlocked
            case nonblock
                set values wait try
            case reopen
                set values join wait
            case submounts
                set values show hide
            case passthrough
                set values auto off
            case attr_timeout entry_timeout
                set values 0 1 60 3600
            case threads
                set values 1 2 4 8
            case log_level
                set values error warning info debug
        end
    else
        set values prefix= exclude= lock= timeout= on_timeout= on_unsupported= nonblock= reopen= hold_warn= ro rw \
            noatime submounts= allow_other no_allow_other passthrough= attr_timeout= entry_timeout= threads= \
            log_file= log_level= debug nodev dev nosuid suid noexec exec sync async dirsync atime nodiratime \
            diratime relatime norelatime strictatime nostrictatime lazytime nolazytime nosymfollow symfollow silent \
            loud defaults acl user_xattr auto noauto user users nouser nousers owner noowner group nogroup nofail \
            _netdev comment= x- X-
        if test "$argv[1]" = flockfs-run
            set -a values quiet fail_if_unlocked
        else
            set -a values foreground stop_timeout=
        end
    end
    for value in $values
        echo -- "$before$value"
    end
end

# Where mirrors are mounted.
function __flockfs_mirrors
    string match -r '^.* - fuse\.flockfs ' </proc/self/mountinfo | string split -f 5 ' ' | string replace -a '\\040' ' '
end

# Whether COMMAND of flockfs-run has begun.
function __flockfs_in_command
    contains -- -- (commandline -opc)
end

function __flockfs_command
    set -l before (commandline -opc)
    set -e before[1..(contains -i -- -- $before)]
    complete -C (string join ' ' -- (string escape -- $before) (commandline -ct))
end

set -l operands 'not __flockfs_in_command'
for program in flockfs flockfs-run
    complete -c $program -n $operands -f -a '(__fish_complete_directories (commandline -ct))'
    complete -c $program -n $operands -l prefix -r -F -d 'Lock only this path and below'
    complete -c $program -n $operands -l exclude -r -F -d 'Do not lock this path and below'
    complete -c $program -n $operands -l lock -x -d 'Which locks' \
        -a 'flock ofd flock+ofd flock+lockfile ofd+lockfile flock+ofd+lockfile'
    complete -c $program -n $operands -l timeout -x -a '-1 0 10s 1min' -d 'Longest wait for a lock'
    complete -c $program -n $operands -l on-timeout -x -a 'fail unlocked' -d 'What happens then'
    complete -c $program -n $operands -l on-unsupported -x -a 'fail unlocked' -d 'No locks in the source'
    complete -c $program -n $operands -l nonblock -x -a 'wait try' -d 'What O_NONBLOCK at open means'
    complete -c $program -n $operands -l reopen -x -a 'join wait' -d 'A file that the process has already'
    complete -c $program -n $operands -l hold-warn -x -a '10s 60s 5min' -d 'Warn of a lock held for longer'
    complete -c $program -n $operands -l ro -d 'Read-only'
    complete -c $program -n $operands -l rw -d 'Not read-only'
    complete -c $program -n $operands -l noatime -d 'Reading moves no access times of the source'
    complete -c $program -n $operands -l submounts -x -a 'show hide' -d 'File systems below SOURCE'
    complete -c $program -n $operands -l allow-other -d 'Let other users in'
    complete -c $program -n $operands -l no-allow-other -d 'Let no other users in'
    complete -c $program -n $operands -l passthrough -x -a 'auto off' -d 'Kernel I/O passthrough'
    complete -c $program -n $operands -l attr-timeout -x -a '0 1 60 3600' -d 'How long the kernel keeps attributes'
    complete -c $program -n $operands -l entry-timeout -x -a '0 1 60 3600' -d 'How long the kernel keeps names'
    complete -c $program -n $operands -l threads -x -a '1 2 4 8' -d 'Threads that serve requests'
    complete -c $program -n $operands -l log-file -r -F -d 'Append the log to this file'
    complete -c $program -n $operands -l log-level -x -a 'error warning info debug' -d 'How much is logged'
    complete -c $program -n $operands -l debug -d 'Log every decision'
    complete -c $program -n $operands -s d -d 'Log every decision to standard error'
    complete -c $program -n $operands -s o -x -a "(__flockfs_list $program)" -d 'Options, as in fstab'
    complete -c $program -n $operands -s h -l help -d 'Display the help'
    complete -c $program -n $operands -s V -l version -d 'Display the version'
end
complete -c flockfs -s f -l foreground -d 'Stay in the foreground'
complete -c flockfs -l config -r -F -d 'Also read options from this file'
complete -c flockfs -l stop-timeout -x -a '10s 60s 5min' -d 'How long open files are served after SIGTERM'
complete -c flockfs-run -n $operands -s q -l quiet -d 'No live line, no summary at the end'
complete -c flockfs-run -n $operands -l fail-if-unlocked -d 'Exit with 75 if a file was not locked'
complete -c flockfs-run -n __flockfs_in_command -x -a '(__flockfs_command)'

complete -c flockfs-status -f -a '(__flockfs_mirrors; __fish_complete_directories (commandline -ct))'
complete -c flockfs-status -l json -d 'Print JSON'
complete -c flockfs-status -l watch -d 'Show it anew every second'
complete -c flockfs-status -s h -l help -d 'Display the help'
complete -c flockfs-status -s V -l version -d 'Display the version'

complete -c mount.flockfs -f -a '(__fish_complete_directories (commandline -ct))'
complete -c mount.flockfs -s f -d 'Check everything, mount nothing'
complete -c mount.flockfs -s n -d Ignored
complete -c mount.flockfs -s r -d 'As -o ro'
complete -c mount.flockfs -s w -d 'As -o rw'
complete -c mount.flockfs -s s -d 'Ignore unknown options'
complete -c mount.flockfs -s v -d 'Say what is done'
complete -c mount.flockfs -s N -r -F -d 'Mount in this mount namespace'
complete -c mount.flockfs -s o -x -a '(__flockfs_list flockfs)' -d 'Options, as in fstab'
complete -c mount.flockfs -s t -x -a 'flockfs fuse.flockfs' -d 'Type'
complete -c mount.flockfs -s h -l help -d 'Display the help'
complete -c mount.flockfs -s V -l version -d 'Display the version'
