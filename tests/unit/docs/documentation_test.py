#!/usr/bin/python3
"""Checks that man pages and completions say what the programs take: documentation_test.py BIN_DIR SBIN_DIR

What they take is read from their --help, which is made of the tables of options that also parse the command line; the
words of mount(8) are those of src/cli/mount_words.cc. The completions are asked through bash, zsh and fish themselves.
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
MAN = ROOT / "packaging" / "man"
COMPLETIONS = ROOT / "packaging" / "completions"
BIN, SBIN = (pathlib.Path(sys.argv.pop(1)).resolve() for _ in range(2))
PAGES = {"flockfs": "flockfs.8", "flockfs-run": "flockfs-run.1", "flockfs-status": "flockfs-status.1",
         "mount.flockfs": "mount.flockfs.8"}
SECTIONS = ["NAME", "SYNOPSIS", "OPTIONS", "LOCKING", "EXIT STATUS", "ERRORS", "FILES", "EXAMPLES"]
LOCKS = {"flock", "ofd", "flock+ofd", "flock+lockfile", "ofd+lockfile", "flock+ofd+lockfile"}
PATIENCE = 60  # seconds, with every core busy and sanitizers


def output_of(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE,
                          stdin=subprocess.DEVNULL, **more).stdout


def help_of(program):
    return output_of([(SBIN if program == "mount.flockfs" else BIN) / program, "--help"])


def options_of(program):
    """{"-f, --foreground": default or None} by the words of --help, an argument included."""
    options, latest = {}, None
    for line in help_of(program).splitlines():
        if not line.strip():
            latest = None
        elif re.match(r" {1,6}-", line):
            spelling, _, text = line.strip().partition("  ")
            latest = spelling
            options[latest] = text.strip()
        elif latest and line.startswith("          "):
            options[latest] += " " + line.strip()
    found = {}
    for spelling, text in options.items():
        default = re.search(r"\[([^]]*)\]$", text)
        # "-r, -w" are two; "-f, --foreground" is one.
        several = spelling.split(", ") if re.fullmatch(r"-\w(, -\w)+", spelling) else [spelling]
        found.update((one, (default.group(1) if default else None, "may repeat" in text)) for one in several)
    return found


def spellings_of(program):
    """What can be typed: {"-f", "--foreground", ...}"""
    return {word for spelling in options_of(program) for word in re.findall(r"(?<!\S)--?[\w-]+", spelling)}


def mount_words(kinds):
    source = (ROOT / "src/cli/mount_words.cc").read_text()
    return {name for name, kind in re.findall(r'MountWord\{"([^"]+)", Kind::k(\w+)', source) if kind in kinds}


def listed_of(program):
    """What a list of -o can begin with; '=' where a value follows."""
    only_typed = {"config", "help", "version"}
    listed = set()
    for spelling in options_of(program):
        name = re.search(r"--([\w-]+)( \S+)?", spelling)
        if name and name.group(1) not in only_typed:
            listed.add(name.group(1).replace("-", "_") + ("=" if name.group(2) else ""))
    words = {word.rstrip("*") for word in mount_words({"Flags", "Dropped"})} - {"comment"}
    return listed | words | {"comment="}


def plain(text):
    """Without the escapes of roff."""
    text = re.sub(r"\\f.", "", text)
    return text.replace(r"\-", "-").replace(r"\e", "\\").replace(r"\&", "").replace(r"\c", "")


def arguments_of(line):
    """Those of a macro, with what stood in quotes."""
    return [quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', line)]


def sections_of(page):
    sections, name = {}, None
    for line in (MAN / page).read_text().splitlines():
        if re.match(r"\.S[Hh] ", line):
            name = line[4:].strip('"')
            sections[name] = []
        elif name:
            sections[name].append(line)
    return sections


def header_of(line):
    """The text of the line behind .TP, or of an .It."""
    if line.startswith(".It "):
        return plain(re.sub(r"Fl (\S+)", r"-\1", line[4:]).replace(" ,", ","))
    macro, _, rest = line.partition(" ")
    words = arguments_of(rest)
    return plain((" " if macro in (".B", ".I") else "").join(words))


def items_of(lines):
    """{header: text}; of several headers of one text each."""
    items, headers, expected = {}, [], False
    for line in lines:
        if line in (".TP", ".TQ"):
            headers = [] if line == ".TP" else headers
            expected = True
        elif expected or line.startswith(".It "):
            headers = headers if expected else []
            headers.append(header_of(line))
            items[headers[-1]] = ""
            expected = False
        elif re.match(r"\.S[sS]|\.El", line):
            headers = []
        else:
            text = plain(line)
            for header in headers:
                items[header] += text + "\n"
    return items


class ManPageTest(unittest.TestCase):
    def test_each_has_all_sections(self):
        for page in PAGES.values():
            with self.subTest(page):
                self.assertEqual([name for name in SECTIONS if not sections_of(page).get(name)], [])

    def test_each_has_the_options_of_its_program_and_no_other(self):
        for program, page in PAGES.items():
            with self.subTest(page):
                items = items_of(sections_of(page)["OPTIONS"])
                options = options_of(program)
                self.assertGreater(len(options), 3)
                self.assertEqual({name for name in items if name.startswith("-")}, set(options))

    def test_each_option_has_its_default_and_says_whether_it_may_repeat(self):
        for program in ("flockfs", "flockfs-run"):
            items = items_of(sections_of(PAGES[program])["OPTIONS"])
            self.assertGreater(sum(default is not None for default, _ in options_of(program).values()), 15)
            for spelling, (default, repeats) in options_of(program).items():
                with self.subTest(f"{program} {spelling}"):
                    said = re.findall(r"^Default: (.*)\.$", items.get(spelling, ""), re.MULTILINE)
                    self.assertEqual(said, [] if default is None else [default])
                    self.assertEqual("May repeat" in items.get(spelling, ""), repeats)

    def test_units_are_explained(self):
        for page in ("flockfs.8", "flockfs-run.1"):
            text = plain("\n".join(sections_of(page)["OPTIONS"]))
            for unit in ("TIME\nis a number of milliseconds", "SEC\nis a number of seconds"):
                self.assertIn(unit, text, page)

    def test_words_of_mount_are_all_there_and_no_other(self):
        items = items_of(sections_of("flockfs.8")["OPTIONS"])
        words = {word for header in items if not header.startswith("-") for word in header.split(", ")}
        self.assertEqual(words, mount_words({"Flags", "Dropped", "Refused"}))

    def test_pages_name_only_options_that_exist(self):
        of_others = {"--one-file-system"}  # of GNU tar
        known = of_others.union(*(spellings_of(program) for program in PAGES))
        for page in PAGES.values():
            text = plain((MAN / page).read_text()).replace("--long-option", "")
            self.assertEqual(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - known, set(), page)

    def test_formatters_have_nothing_to_say(self):
        for page in PAGES.values():
            lint = subprocess.run(["mandoc", "-Tlint", "-Wwarning", MAN / page], capture_output=True, text=True,
                                  timeout=PATIENCE, check=False)
            # ERRORS is for system calls, mandoc thinks.
            complaints = [line for line in lint.stdout.splitlines() if "unexpected section: Sh ERRORS" not in line]
            self.assertEqual(complaints + lint.stderr.splitlines(), [], page)


BASH = r"""
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_flockfs "$1"
printf '%s\n' "${COMPREPLY[@]}"
"""

FISH = 'source $argv[1]; complete -C $argv[2] | string replace -r "\\t.*" ""; true'

# zsh completes only where a line is edited, so it gets a terminal. Fifos say when it is ready, and when it is done;
# what is offered goes to a file.
ZSH = r"""
zmodload zsh/zpty
cd $1
mkfifo ready done
zpty terminal "TERM=dumb zsh -f -i"
zpty -w terminal "fpath=(${(q)2} \$fpath); source ${(q)1}/setup"
read <ready
zpty -w -n terminal "$3"$'\C-t'
read <done
zpty -d terminal
"""

ZSH_SETUP = r"""
directory=$PWD
autoload -Uz compinit
compinit -u -C -d ${directory:h}/dump
PS1=
zstyle ':completion:*' menu no
compadd() {
  if (( ! ${@[(I)-[OAD]]} )); then
    local -a got
    local one path_before
    builtin compadd -O got "$@"
    (( ! ${@[(I)-p]} )) || path_before=${@[${@[(I)-p]} + 1]}
    for one in "${got[@]}"; do print -r -- "$IPREFIX$path_before$one"; done >>$directory/offered
  fi
  builtin compadd "$@"
}
offer() {
  _main_complete
  compstate[insert]=
  compstate[list]=
  print done >$directory/done
}
zle -C offer complete-word offer
bindkey '^T' offer
print ready >ready
"""


def offered_by_bash(line):
    # As readline has it: '=' is a word.
    words = [word for part in line.split(" ") for word in re.split(r"(=)", part) if word or not part]
    offered = output_of(["bash", "-c", BASH, "bash", COMPLETIONS / "flockfs.bash", *words]).splitlines()
    head = re.sub(r"[^=]*$", "", line.split(" ")[-1])
    return {head + one for one in offered if one}


def offered_by_fish(line):
    return set(output_of(["fish", "--no-config", "-c", FISH, COMPLETIONS / "flockfs.fish", line]).splitlines())


ZSH_PLACE = tempfile.TemporaryDirectory()  # what compinit has found is kept there, for speed


def offered_by_zsh(line):
    with tempfile.TemporaryDirectory(dir=ZSH_PLACE.name) as directory:
        offered = pathlib.Path(directory, "offered")
        offered.touch()
        pathlib.Path(directory, "setup").write_text(ZSH_SETUP)
        output_of(["zsh", "-f", "-c", ZSH, "zsh", directory, COMPLETIONS, line])
        return set(offered.read_text().splitlines())


class CompletionTest(unittest.TestCase):
    def check_shell(self, ask, adapted=lambda words: words):
        for program in PAGES:
            with self.subTest(program):
                self.assertEqual(ask(f"{program} -") - {"-"}, spellings_of(program))
        for program in ("flockfs", "flockfs-run"):
            with self.subTest(f"{program} -o"):
                self.assertEqual(ask(f"{program} -o "), adapted(listed_of(program)))
        self.assertEqual(ask("mount.flockfs -o "), adapted(listed_of("flockfs")))
        self.assertEqual(ask("flockfs --lock="), {"--lock=" + lock for lock in LOCKS})
        self.assertEqual(ask("flockfs-run --lock o"), {"ofd", "ofd+lockfile"})
        self.assertEqual(ask("flockfs -o ro,lock=o"), {"ro,lock=ofd", "ro,lock=ofd+lockfile"})
        self.assertEqual(ask("flockfs -o ro,on_timeout="), {"ro,on_timeout=fail", "ro,on_timeout=unlocked"})
        self.assertEqual(ask("mount.flockfs -t fl"), {"flockfs"})
        with tempfile.TemporaryDirectory() as directory:
            pathlib.Path(directory, "one").mkdir()
            pathlib.Path(directory, "other").touch()
            for line in (f"flockfs {directory}/o", f"flockfs-run {directory}/o", f"flockfs-status {directory}/o"):
                self.assertEqual({one.rstrip("/") for one in ask(line)}, {directory + "/one"}, line)
            for start in ("--prefix=", "--exclude ", "-o ro,prefix=", "--log-file="):
                word = start.removeprefix("--exclude ").removeprefix("-o ")
                self.assertEqual({one.rstrip("/") for one in ask(f"flockfs {start}{directory}/o")},
                                 {f"{word}{directory}/one", f"{word}{directory}/other"}, start)
        self.assertIn("unshare", ask("flockfs-run /srv -- unsha"))

    def check_values(self, ask):
        """What is offered as a value is taken by the program."""
        for name in listed_of("flockfs"):
            if not name.endswith("=") or name in ("comment=", "prefix=", "exclude=", "log_file="):
                continue
            values = ask(f"flockfs -o {name}")
            self.assertGreater(len(values), 1, name)
            for value in values:
                said = subprocess.run([SBIN / "mount.flockfs", "-f", "-o", value, "/usr", "/mnt"], capture_output=True,
                                      text=True, timeout=PATIENCE, check=False)
                self.assertEqual((said.returncode, said.stderr), (0, ""), value)

    def test_bash(self):
        self.check_shell(offered_by_bash)
        self.check_values(offered_by_bash)

    def test_fish(self):
        self.check_shell(offered_by_fish)
        self.check_values(offered_by_fish)

    def test_zsh(self):
        # It adds '=' when one is chosen.
        self.check_shell(offered_by_zsh, lambda words: {word.rstrip("=") for word in words})
        self.check_values(offered_by_zsh)


if __name__ == "__main__":
    unittest.main()
