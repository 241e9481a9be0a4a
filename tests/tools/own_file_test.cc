// DESIGN 1.6: a process never waits for itself. Everyday programs that open a file again while they have it open, one
// of the two for writing; each must do to a file in the mirror what it does to one anywhere else, and end.

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/record_lock.h"

namespace flockfs::test {
namespace {

struct Rewriter {
  std::string name;
  std::string script;  // run by sh in the directory of the file `f`
};

void PrintTo(const Rewriter& rewriter, std::ostream* out) { *out << rewriter.name; }

std::vector<Rewriter> rewriters() {
  return {
      // GNU cat refuses, but only after it has opened both; busybox's goes on until the file may not grow any more.
      {"Cat", "cat f >>f"},
      {"CatOfStaticBusybox", "ulimit -f 16; busybox cat f >>f"},
      {"ShellRedirections", "cat <f >>f"},
      {"HeadAppends", "head -c 100 f >>f"},
      {"TailAppends", "tail -c 100 <f >>f"},
      {"TeeAppends", "ulimit -f 16; tee -a f <f >/dev/null"},
      {"Sort", "sort -o f f"},
      {"Shuf", "shuf --random-source=/bin/sh -o f f"},
      {"SedInPlace", "sed -i s/line/LINE/ f"},
      {"DdNotrunc", "dd if=f of=f bs=1000 conv=notrunc status=none"},
      {"DdSwab", "dd if=f of=f bs=1000 conv=notrunc,swab status=none"},
      {"DdInto", "dd if=f of=f bs=100 count=3 seek=10 conv=notrunc status=none"},
      {"RsyncInplace", "tac f >new; rsync --inplace --no-whole-file --ignore-times new f; rm new"},
      {"RsyncInplaceAppend", "(cat f; echo added) >new; rsync --append-verify new f; rm new"},
      {"PerlInPlace", "perl -i -pe s/line/LINE/ f"},
      {"PerlReadsAndWrites", R"(perl -e 'open A,"<","f"; open B,"+<","f"; $_=<A>; print B uc; close A; print B uc' )"},
      {"PythonReadsAndAppends", R"(/usr/bin/python3 -c 'a=open("f"); b=open("f","a"); b.write(a.readline())')"},
      {"Vim", "vim.tiny -u NONE -i NONE -es -c '%s/line/LINE/' -c wq f"},
      {"VimWithBackupCopy", "vim.tiny -u NONE -i NONE -es -c 'set backupcopy=yes' -c '1d' -c wq f"},
      {"Ed", "printf '%s\\n' '1,3d' '$a' 'the end' . w q | ed -s f"},
      {"Sponge", "sort -r f | sponge f"},
      {"ShellHoldsItOpen", "exec 3<f; read -r line <&3; echo \"$line\" >>f; cat <&3 >/dev/null"},
      {"ShellReplacesItsInput", "exec 3<f; echo new >f; cat f"},
      {"TwiceForWriting", "exec 3>>f 4>>f; echo three >&3; echo four >&4"},
  };
}

class OwnFileTest : public MirrorTest, public ::testing::WithParamInterface<std::tuple<Rewriter, Passthrough>> {
 protected:
  static constexpr Millis kTime{10000};

  void adapt(MirrorSetup& setup) const override {
    setup.options.push_back(PassthroughTest::passthrough_option(std::get<1>(GetParam())));
  }
  static std::string text() {
    std::string lines;
    for (int i = 0; i < 60; ++i) lines += "line " + std::to_string(i * 7 % 60) + "\n";
    return lines;
  }
  static ProgramResult rewrite(const std::string& directory) {
    return run_program({"sh", "-c", std::get<0>(GetParam()).script}, {.directory = directory}, kTime);
  }
};
std::string own_file_name(const ::testing::TestParamInfo<OwnFileTest::ParamType>& info) {
  return std::get<0>(info.param).name + (std::get<1>(info.param) == Passthrough::kAuto ? "" : "NoPassthrough");
}
INSTANTIATE_TEST_SUITE_P(Tools, OwnFileTest, ::testing::Combine(::testing::ValuesIn(rewriters()), BothPassthroughs()),
                         own_file_name);

TEST_P(OwnFileTest, EndsAndLeavesWhatItWouldLeaveAnywhere) {
  const std::string plain = folder("plain");
  write_file(plain + "/f", text());
  const ProgramResult expected = rewrite(plain);
  EXPECT_NE(expected.exit_code, 127) << expected;

  write_file(source("f"), text());
  mount();
  const ProgramResult result = rewrite(mnt());
  EXPECT_EQ(result.exit_code, expected.exit_code) << result << expected;
  EXPECT_EQ(result.out, expected.out);
  EXPECT_EQ(result.err, expected.err);
  const std::string made = read_file(source("f"));
  EXPECT_TRUE(made == read_file(plain + "/f")) << made.size() << " bytes: " << made.substr(0, 1000);
  EXPECT_EQ(list_dir(source()), list_dir(plain));
  EXPECT_TRUE(becomes_free(source("f")));
}

// What the brackets of flock(1) are used for everywhere: many at once, on both sides. Those in the mirror have the lock
// file open for reading, and so a shared lock on it, before they ask for the exclusive one.
class FlockIncrementTest : public PassthroughTest {};
INSTANTIATE_TEST_SUITE_P(Tools, FlockIncrementTest, BothPassthroughs(), passthrough_name);

TEST_P(FlockIncrementTest, FiftyOnBothSidesLoseNothing) {
  constexpr int kPrograms = 50;
  write_file(source("f"), "");
  write_file(source("g"), "0\n");
  mount();
  std::vector<std::unique_ptr<Program>> programs;
  for (int i = 0; i < kPrograms; ++i) {
    const std::vector<std::string> command{"flock", "f", "sh", "-c", "read -r n <g; echo $((n + 1)) >g"};
    programs.push_back(std::make_unique<Program>(command, ProgramSetup{.directory = i % 2 == 0 ? mnt() : source()}));
  }
  for (const auto& program : programs) {
    EXPECT_EQ(program->exit_code(kPatience * 6), 0) << program->err();
    EXPECT_EQ(program->err(), "");
  }
  EXPECT_EQ(read_file(source("g")), std::to_string(kPrograms) + "\n");
  EXPECT_TRUE(becomes_free(source("f")));
  EXPECT_TRUE(becomes_free(source("g")));
}

}  // namespace
}  // namespace flockfs::test
