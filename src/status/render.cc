#include "status/render.h"

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace flockfs {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kLeastColumns = 40;
constexpr std::size_t kLeastPath = 12;
constexpr std::size_t kCommandWidth = 15;
// As the mirror itself names what it knows no name of.
constexpr std::string_view kDeleted = " (deleted)";
// Of those in one's way; the JSON has more.
constexpr std::size_t kMostBlockersShown = 4;

class Renderer {
 public:
  explicit Renderer(const Screen& screen) : screen_(screen) {
    screen_.columns = std::max(screen_.columns, kLeastColumns);
  }

  std::vector<std::string> render(const Json& report) {
    add_head(report);
    add_held(report);
    add_waiting(report);
    for (std::string& line : lines_) line = shortened(line, screen_.columns);
    if (lines_.size() > screen_.rows && screen_.rows > 0) {
      const std::size_t left_out = lines_.size() - screen_.rows + 1;
      lines_.resize(screen_.rows - 1);
      lines_.push_back("... " + std::to_string(left_out) + " more lines");
    }
    return std::move(lines_);
  }

 private:
  struct Column {
    std::string title;
    bool right = false;
    std::size_t width = 0;
  };
  using Row = std::vector<std::string>;

  [[nodiscard]] std::string text(const Json& value) const {
    return printable(value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', true), screen_.charset);
  }

  // A path that the report holds escaped, since it is not UTF-8, is so already.
  [[nodiscard]] std::string path(const Json& object, const std::string& key) const {
    const auto& plain = object.at(key).get_ref<const std::string&>();
    if (!object.value(key + "_escaped", false)) return printable(plain, screen_.charset);
    std::string shown = printable(plain, screen_.charset);
    for (std::size_t at = 0; (at = shown.find("\\\\", at)) != std::string::npos; ++at) shown.erase(at, 1);
    return shown;
  }

  // Words with two blanks between them, on as many lines as they need.
  void add_words(const std::string& title, const std::vector<std::string>& words) {
    std::string line = title;
    for (const std::string& word : words) {
      if (!line.empty() && width_of(line) + 2 + width_of(word) > screen_.columns) {
        lines_.push_back(std::exchange(line, std::string(title.size(), ' ')));
      }
      line += (line.empty() ? "" : "  ") + word;
    }
    lines_.push_back(line);
  }

  void add_head(const Json& report) {
    const std::string source = path(report, "source");
    const std::string mountpoint = path(report, "mountpoint");
    const std::size_t half = (screen_.columns - 4) / 2;
    const std::size_t left = std::max(half, screen_.columns - 4 - std::min(width_of(mountpoint), half));
    const std::string first = shortened(source, left);
    lines_.push_back(first + " on " + shortened(mountpoint, screen_.columns - 4 - width_of(first)));
    add_words("", {"pid " + text(report.at("pid")), "up " + time_text(report.at("uptime_s").get<double>()),
                   std::string("passthrough ") + (report.at("passthrough").get<bool>() ? "on" : "off"),
                   "version " + text(report.at("version"))});
    std::vector<std::string> counters;
    for (const auto& [name, number] : report.at("counters").items()) {
      std::string word = printable(name, screen_.charset) + " " + text(number);
      if (name == "waited") word += " (" + time_text(report.at("wait_seconds_total").get<double>()) + " in all)";
      counters.push_back(std::move(word));
    }
    add_words("", counters);
    std::vector<std::string> requests;
    for (const auto& [name, number] : report.at("requests").items()) {
      requests.push_back(printable(name, screen_.charset) + " " + text(number));
    }
    if (!requests.empty()) add_words("requests:", requests);
  }

  [[nodiscard]] std::string process(const Json& entry) const {
    return entry.at("pid").is_number() ? text(entry.at("pid")) : "-";
  }
  [[nodiscard]] std::string command(const Json& entry) const {
    return entry.at("comm").is_string() ? shortened(text(entry.at("comm")), kCommandWidth) : "-";
  }

  // The columns as wide as they need to be, and the path, which is the last, in what is left.
  [[nodiscard]] std::vector<std::string> table(std::vector<Column> columns, const std::vector<Row>& rows) const {
    std::size_t used = 0;
    for (std::size_t i = 0; i + 1 < columns.size(); ++i) {
      columns[i].width = width_of(columns[i].title);
      for (const Row& row : rows) columns[i].width = std::max(columns[i].width, width_of(row[i]));
      used += columns[i].width + 2;
    }
    columns.back().width = std::max(kLeastPath, screen_.columns - std::min(used, screen_.columns));
    const auto line_of = [&](const Row& row) {
      std::string line;
      for (std::size_t i = 0; i + 1 < columns.size(); ++i) {
        const auto& [title, right, width] = columns[i];
        line += (right ? right_aligned(row[i], width) : left_aligned(row[i], width)) + "  ";
      }
      return line + shortened(row.back(), columns.back().width);
    };
    Row titles;
    for (const Column& column : columns) titles.push_back(column.title);
    std::vector<std::string> lines{line_of(titles)};
    for (const Row& row : rows) lines.push_back(line_of(row));
    return lines;
  }

  void add_title(const std::string& title, const Json& total, std::size_t listed) {
    lines_.emplace_back();
    std::string line = title + " " + text(total);
    if (listed > 0 && total.is_number() && total.get<std::size_t>() > listed) {
      line += " (the first " + std::to_string(listed) + " are listed)";
    }
    lines_.push_back(std::move(line));
  }

  void add_held(const Json& report) {
    const Json& all = report.at("held");
    add_title("HELD", report.at("held_total"), all.size());
    if (all.empty()) return;
    std::vector<Row> rows;
    bool any_long = false;
    for (const Json& held : all) {
      const bool is_long = held.value("long", false);
      any_long |= is_long;
      std::string where = path(held, "path");
      if (held.value("deleted", false) && !where.ends_with(kDeleted)) where += kDeleted;
      rows.push_back({process(held), command(held), text(held.at("mode")), text(held.at("lock")),
                      time_text(held.at("since_s").get<double>()) + (is_long ? "!" : " "), std::move(where)});
    }
    const auto lines = table({{"PID", true}, {"COMMAND"}, {"MODE"}, {"LOCK"}, {"HELD ", true}, {"PATH"}}, rows);
    lines_.insert(lines_.end(), lines.begin(), lines.end());
    if (any_long)
      lines_.push_back("!: for longer than hold_warn, " + time_text(report.at("hold_warn_s").get<double>()));
  }

  // "tar 812 (shared)"; one whose process is not to be seen is a lock of an open file description.
  [[nodiscard]] std::string blocker(const Json& one) const {
    const bool seen = one.at("pid").is_number();
    std::string who = seen ? command(one) + " " + process(one) : std::string("a process that cannot be seen");
    who += " (" + text(one.at("mode"));
    if (!one.at("through_mirror").get<bool>()) who += ", outside the mirror";
    return who + ")";
  }

  void add_waiting(const Json& report) {
    const Json& all = report.at("waiting");
    add_title("WAITING", report.at("waiting_total"), all.size());
    if (all.empty()) return;
    std::vector<Row> rows;
    for (const Json& waiting : all) {
      rows.push_back({process(waiting), command(waiting), text(waiting.at("mode")),
                      time_text(waiting.at("waited_s").get<double>()), path(waiting, "path")});
    }
    const auto lines = table({{"PID", true}, {"COMMAND"}, {"MODE"}, {"WAITED", true}, {"PATH"}}, rows);
    lines_.push_back(lines.front());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      lines_.push_back(lines[i + 1]);
      const Json& blockers = all[i].at("blocked_by");
      for (std::size_t n = 0; n < std::min(blockers.size(), kMostBlockersShown); ++n) {
        lines_.push_back("      for " + blocker(blockers[n]));
      }
      if (blockers.size() > kMostBlockersShown) {
        lines_.push_back("      and " + std::to_string(blockers.size() - kMostBlockersShown) + " more");
      }
      if (all[i].value("possible_deadlock", false))
        lines_.emplace_back("      maybe for ever: those wait for this one");
    }
  }

  Screen screen_;
  std::vector<std::string> lines_;
};

}  // namespace

Result<std::vector<std::string>> render_status(const std::string& report, const Screen& screen) {
  try {
    return Renderer(screen).render(Json::parse(report));
  } catch (const nlohmann::json::exception&) {
    return Error{0, "the mirror's answer is not understood (another version of flockfs?)"};
  }
}

}  // namespace flockfs
