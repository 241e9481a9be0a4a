// flockfs-status(1): shows what a mirror is doing.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <clocale>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/exit_code.h"
#include "cli/status_options.h"
#include "status/client.h"
#include "status/render.h"
#include "status/terminal.h"

namespace flockfs {
namespace {

constexpr auto kInterval = std::chrono::seconds(1);

ExitCode print_usage_error(const std::string& message) {
  (void)std::fprintf(stderr, "flockfs-status: %s\nTry 'flockfs-status --help' for more information.\n",
                     message.c_str());
  return kExitUsage;
}

ExitCode print_failure(const std::string& message) {
  (void)std::fprintf(stderr, "flockfs-status: %s\n", message.c_str());
  return kExitFailure;
}

ExitCode print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return kExitOk;
  return print_failure(errno_error("cannot write").message());
}

// What is to be shown of all the mirrors that are asked for.
Result<std::vector<std::string>> look(const StatusCommand& command, const Screen& screen) {
  auto reports = ask_for_status(command.target);
  if (!reports) return reports.error();
  std::vector<std::string> lines;
  for (std::string& report : *reports) {
    if (command.json) {
      while (!report.empty() && report.back() == '\n') report.pop_back();
      lines.push_back(std::move(report));
      continue;
    }
    Screen rest = screen;
    if (!lines.empty()) lines.emplace_back();
    rest.rows -= std::min(rest.rows, lines.size());
    auto rendered = render_status(report, rest);
    if (!rendered) return rendered.error();
    lines.insert(lines.end(), rendered->begin(), rendered->end());
  }
  if (lines.size() > screen.rows) lines.resize(screen.rows);
  return lines;
}

ExitCode show_once(const StatusCommand& command) {
  Screen screen = screen_of_stdout();
  screen.rows = Screen{}.rows;
  const auto lines = look(command, screen);
  if (!lines) return print_failure(lines.error().message());
  std::string text;
  for (const std::string& line : *lines) text.append(line).append("\n");
  return print(text);
}

// Nothing is written to standard error while the display is open.
Status watch(const StatusCommand& command) {
  auto display = LiveDisplay::open(command.json ? LiveDisplay::For::kPrograms : LiveDisplay::For::kPeople);
  if (!display) return display.error();
  do {
    const auto lines = look(command, screen_of_stdout());
    if (!lines) return lines.error();
    if (!display->draw(*lines)) return errno_error("cannot write");
  } while (display->wait(kInterval));
  return {};
}

ExitCode main_with(const std::vector<std::string>& arguments) {
  const auto command = parse_status_command_line(arguments);
  if (!command.ok()) return print_usage_error(command.error().message());
  if (command->request == StatusCommand::Request::kHelp) return print(status_help_text());
  if (command->request == StatusCommand::Request::kVersion) return print("flockfs-status from " + version_text());
  if (!command->watch) return show_once(*command);
  const Status watched = watch(*command);
  return watched.ok() ? kExitOk : print_failure(watched.error().message());
}

}  // namespace
}  // namespace flockfs

int main(int argc, char** argv) {
  (void)std::setlocale(LC_CTYPE, "");
  try {
    return flockfs::main_with(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  } catch (const std::exception& failure) {
    return flockfs::print_failure(failure.what());
  }
}
