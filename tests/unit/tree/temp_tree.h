#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "temp_directory.h"
#include "tree/inode_table.h"
#include "tree/source.h"

namespace flockfs {

// A directory on a real file system, opened as a source, and gone at the end.
class TempTree : public testing::Test {
 protected:
  void SetUp() override {
    auto source = Source::open({dir_, false, false});
    ASSERT_TRUE(source.ok()) << source.error().message();
    source_ = *std::move(source);
    table_ = std::make_unique<InodeTable>(*source_);
    const Status root = table_->open_root();
    ASSERT_TRUE(root.ok()) << root.error().message();
  }

  void TearDown() override {
    table_.reset();
    source_.reset();
  }

  void write(const std::string& name, const std::string& text) const { std::ofstream(dir_ + "/" + name) << text; }
  [[nodiscard]] std::string at(const std::string& name) const { return dir_ + "/" + name; }

  Found look(const std::string& name) { return look(table_->root(), name); }
  Found look(const InodePtr& parent, const std::string& name) {
    auto found = table_->lookup(parent, name.c_str());
    EXPECT_TRUE(found.ok()) << name << ": " << found.error().message();
    return found.ok() ? *std::move(found) : Found{};
  }

  const TempDirectory directory_;
  const std::string& dir_ = directory_.path();
  std::unique_ptr<Source> source_;
  std::unique_ptr<InodeTable> table_;
};

}  // namespace flockfs
