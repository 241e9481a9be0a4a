#include "harness/program.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ostream>
#include <sstream>
#include <system_error>

namespace flockfs::test {
namespace {

UniqueFd output_buffer() {
  UniqueFd fd(::memfd_create("output of a test", MFD_CLOEXEC));
  if (!fd) throw std::system_error(errno, std::generic_category(), "memfd_create");
  return fd;
}

std::string contents(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return {};
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return text;
}

[[noreturn]] void become(const std::vector<std::string>& command, const ProgramSetup& setup, int out, int err) {
  const UniqueFd null(::open("/dev/null", O_RDONLY));
  if (::dup2(null.get(), 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) ::_exit(126);
  // Appending: programs that share the descriptor (a daemon and its parent) must not write over each other.
  ::fcntl(1, F_SETFL, O_APPEND);
  ::fcntl(2, F_SETFL, O_APPEND);
  if (!setup.directory.empty() && ::chdir(setup.directory.c_str()) != 0) ::_exit(126);
  for (const std::string& pair : setup.environment) {
    const std::size_t equals = pair.find('=');
    ::setenv(pair.substr(0, equals).c_str(), pair.substr(equals + 1).c_str(), 1);
  }
  if (setup.before_exec) setup.before_exec();
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(::strdup(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const std::string message = command[0] + ": " + std::strerror(errno) + "\n";
  if (::write(2, message.data(), message.size()) < 0) ::_exit(126);
  ::_exit(127);
}

}  // namespace

Program::Program(const std::vector<std::string>& command, const ProgramSetup& setup)
    : out_(output_buffer()),
      err_(output_buffer()),
      child_([&](Peer&) { become(command, setup, out_.get(), err_.get()); }) {}

std::string Program::out() const { return contents(out_.get()); }
std::string Program::err() const { return contents(err_.get()); }

int Program::exit_code(Millis time) {
  const auto status = child_.wait(time);
  if (!status) return -1;
  return WIFSIGNALED(*status) ? 128 + WTERMSIG(*status) : WEXITSTATUS(*status);
}

std::ostream& operator<<(std::ostream& stream, const ProgramResult& result) {
  return stream << "exit " << result.exit_code << "\nstdout: " << result.out << "\nstderr: " << result.err;
}

ProgramResult run_program(const std::vector<std::string>& command, const ProgramSetup& setup, Millis time) {
  Program program(command, setup);
  const int code = program.exit_code(time);
  return {code, program.out(), program.err()};
}

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "/usr/bin:/bin" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = folder + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return {};
}

}  // namespace flockfs::test
