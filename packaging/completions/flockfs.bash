# Completion in bash for flockfs, flockfs-run, flockfs-status and mount.flockfs.
# It needs nothing of the bash-completion package, but has it complete COMMAND of flockfs-run where it is loaded.
# shellcheck shell=bash

_flockfs_both='prefix= exclude= lock= timeout= on-timeout= on-unsupported= nonblock= reopen= hold-warn= ro rw noatime
  submounts= allow-other no-allow-other passthrough= attr-timeout= entry-timeout= threads= log-file= log-level= debug'
_flockfs_own='foreground stop-timeout='
_flockfs_run_own='quiet fail-if-unlocked'
_flockfs_mount_words='nodev dev nosuid suid noexec exec sync async dirsync atime nodiratime diratime relatime norelatime
  strictatime nostrictatime lazytime nolazytime nosymfollow symfollow silent loud defaults acl user_xattr auto noauto
  user users nouser nousers owner noowner group nogroup nofail _netdev comment= x- X-'

# Adds to COMPREPLY what starts with $1 of the words behind it.
_flockfs_words() {
  local start=$1 word
  shift
  for word; do
    [[ $word != "$start"* ]] || COMPREPLY+=("$word")
  done
}

# The value of the option $1 that starts with $2; $3 is what stands before it in its word.
_flockfs_value() {
  local values=() path
  case ${1//_/-} in
    prefix | exclude | log-file | config)
      while IFS= read -r path; do
        [[ ! -d $path ]] || path+=/
        COMPREPLY+=("$3$path")
      done < <(compgen -f -- "$2")
      compopt -o nospace -o filenames 2>/dev/null
      return ;;
    lock) values=(flock ofd flock+ofd flock+lockfile ofd+lockfile flock+ofd+lockfile) ;;
    timeout) values=(-1 0 10s 1min) ;;
    hold-warn | stop-timeout) values=(10s 60s 5min) ;;
    on-timeout | on-unsupported) values=(fail unlocked) ;;
    nonblock) values=(wait try) ;;
    reopen) values=(join wait) ;;
    submounts) values=(show hide) ;;
    passthrough) values=(auto off) ;;
    attr-timeout | entry-timeout) values=(0 1 60 3600) ;;
    threads) values=(1 2 4 8) ;;
    log-level) values=(error warning info debug) ;;
  esac
  _flockfs_words "$3$2" "${values[@]/#/$3}"
}

# A list of -o, of which $1 has been typed; the options are those behind it.
_flockfs_list() {
  local list=$1 last=${1##*,} words
  local before=${list%"$last"}
  shift
  compopt -o nospace 2>/dev/null
  if [[ $last == *=* ]]; then
    _flockfs_value "${last%%=*}" "${last#*=}" "$before${last%%=*}="
  else
    words=("${@//-/_}")
    # shellcheck disable=SC2206  # split into words on purpose
    words+=($_flockfs_mount_words)
    _flockfs_words "$list" "${words[@]/#/$before}"
  fi
}

# Where mirrors are mounted.
_flockfs_mirrors() {
  local fields
  while read -ra fields; do
    [[ " ${fields[*]} " != *' - fuse.flockfs '* ]] || _flockfs_words "$1" "${fields[4]//\\040/ }"
  done </proc/self/mountinfo
}

_flockfs() {
  local program=${1##*/} at=$COMP_CWORD word=${COMP_WORDS[COMP_CWORD]} i previous name options=() letters=() reply
  local typed=()  # not in a list of -o
  COMPREPLY=()
  # bash has made several words of one with '=' in it.
  while ((at > 1)) && [[ ${COMP_WORDS[at]} == '=' || ${COMP_WORDS[at - 1]} == '=' ]]; do
    word=${COMP_WORDS[--at]}$word
  done
  previous=${COMP_WORDS[at - 1]}
  # shellcheck disable=SC2206  # split into words on purpose
  case $program in
    flockfs-run)
      options=($_flockfs_run_own $_flockfs_both)
      letters=(-q -d -o -h -V)
      for ((i = 1; i < at; ++i)); do
        [[ ${COMP_WORDS[i]} == -- ]] || continue
        if declare -F _command_offset >/dev/null; then
          _command_offset $((i + 1))
        elif ((at == i + 1)); then
          mapfile -t COMPREPLY < <(compgen -c -- "$word" | sort -u)
        else
          compopt -o default 2>/dev/null
        fi
        return
      done ;;
    flockfs-status) letters=(-h -V) ;;
    mount.flockfs)
      options=($_flockfs_both $_flockfs_own)
      letters=(-f -n -r -s -v -w -N -o -t -h -V) ;;
    *)
      options=($_flockfs_both $_flockfs_own)
      typed=(config=)
      letters=(-f -d -o -h -V) ;;
  esac
  name=${previous#--}
  [[ $previous == -o ]] || options+=("${typed[@]}")
  if [[ $program != flockfs-status && $previous == -o ]]; then
    _flockfs_list "$word" "${options[@]}"
  elif [[ $program == mount.flockfs && $previous == -t ]]; then
    _flockfs_words "$word" flockfs fuse.flockfs
  elif [[ $program == mount.flockfs && $previous == -N ]]; then
    compopt -o default 2>/dev/null
  elif [[ $program == flockfs?(-run) && $word == --*=* ]]; then
    name=${word%%=*}
    _flockfs_value "${name#--}" "${word#*=}" "$name="
  elif [[ $program == flockfs?(-run) && $previous == --* && " ${options[*]} " == *" ${name//_/-}= "* ]]; then
    _flockfs_value "$name" "$word" ''
  elif [[ $word == -* ]]; then
    case $program in
      mount.flockfs) options=(--help --version) ;;
      flockfs-status) options=(--json --watch --help --version) ;;
      *)
        options=("${options[@]/#/--}" --help --version)
        options=("${options[@]%=}") ;;
    esac
    _flockfs_words "$word" "${letters[@]}" "${options[@]}"
  else
    [[ $program != flockfs-status ]] || _flockfs_mirrors "$word"
    while IFS= read -r reply; do COMPREPLY+=("$reply"); done < <(compgen -d -- "$word")
    compopt -o filenames 2>/dev/null
  fi
  # Only what stands behind the last '=' is replaced.
  if [[ $word == *=* && $COMP_WORDBREAKS == *=* ]]; then
    reply=${word%=*}=
    COMPREPLY=("${COMPREPLY[@]#"$reply"}")
  fi
}
complete -F _flockfs flockfs flockfs-run flockfs-status mount.flockfs
