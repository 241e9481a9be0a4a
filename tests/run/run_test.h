#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {

// From $FLOCKFS_RUN_BIN, or else from the build.
[[nodiscard]] std::string flockfs_run_program();

// A test of flockfs-run on source/, which holds the file "f". At its end no process of a run may be left.
class RunTest : public MirrorTest {
 protected:
  RunTest();
  ~RunTest() override;

  // flockfs-run with these arguments.
  [[nodiscard]] std::vector<std::string> command(const std::vector<std::string>& arguments) const;
  [[nodiscard]] ProgramResult run(const std::vector<std::string>& arguments, const ProgramSetup& setup = {}) const;
  // flockfs-run SOURCE -- sh -c SCRIPT, where $S is source/ and $T the directory above.
  [[nodiscard]] ProgramResult run_shell(const std::string& script, const std::vector<std::string>& options = {},
                                        ProgramSetup setup = {}) const;
  [[nodiscard]] std::unique_ptr<Program> start(const std::vector<std::string>& arguments,
                                               const ProgramSetup& setup = {}) const;
  [[nodiscard]] std::unique_ptr<Program> start_shell(const std::string& script,
                                                     const std::vector<std::string>& options = {},
                                                     ProgramSetup setup = {}) const;

  // All processes that run flockfs-run with something of this test in their arguments: runners, and their mirrors.
  [[nodiscard]] std::vector<pid_t> processes() const;
  // Those of them that serve mirrors: not this one.
  [[nodiscard]] std::vector<pid_t> mirrors_of(pid_t runner) const;
  // None is there any more, within a second.
  [[nodiscard]] ::testing::AssertionResult all_gone() const;
  // The file beside source/ is there; scripts make it to say that they have come so far.
  [[nodiscard]] bool comes(const std::string& name) const;
  // With nothing inherited but the standard descriptors and what before_exec opens.
  [[nodiscard]] static ProgramSetup clean(ProgramSetup setup);

 private:
  [[nodiscard]] ProgramSetup with_environment(ProgramSetup setup) const;
};

}  // namespace flockfs::test
