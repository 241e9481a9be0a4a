// What other users may do, beyond the plain modes of rights_test.cc and ownership_test.cc: supplementary groups, sticky
// directories, access lists with masks, default access lists, and the names of attributes that are not for them.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

// Where a test's two directories are: the first is used directly, the second through the mirror. What the same user
// gets for an answer, and what is there afterwards, must be the same, so no rule of Linux has to be repeated here; each
// test says only which of the answers shows that it has tried something at all.
class OtherUsersTest : public MirrorTest {
 protected:
  using LayOut = std::function<void(const std::string& dir)>;
  using Work = std::function<std::string(const std::string& dir)>;

  // Both are laid out alike, and mounted.
  void prepare(const LayOut& lay_out) {
    for (const std::string name : {"native", "mirrored"}) {
      make_dir(source(name));
      lay_out(source(name));
    }
    mount();
  }
  // The stranger's answers, which are the same on both sides.
  std::string answers_to(const Work& work, const std::vector<gid_t>& groups = {}) {
    const std::string native = ask(source("native"), work, groups);
    const std::string mirrored = ask(mnt("mirrored"), work, groups);
    EXPECT_EQ(native, mirrored);
    EXPECT_EQ(state_of("native"), state_of("mirrored"));
    return native;
  }

 private:
  std::string ask(const std::string& dir, const Work& work, const std::vector<gid_t>& groups) {
    Child child([&](Peer& test) {
      become_user(kStranger, kStrangerGroup, groups);
      test.say("answers: " + work(dir));
    });
    const std::string said = child.hear().value_or("");
    EXPECT_TRUE(child.ends_well());
    return said;
  }
  // Owners, modes, sizes and access lists of all that is there.
  [[nodiscard]] std::string state_of(const std::string& name) const {
    const auto found = run_program({"find", ".", "-printf", "%P %y %m %U %G %n %s\n"}, {.directory = source(name)});
    const auto lists = run_program({"getfacl", "-Rpn", "."}, {.directory = source(name)});
    EXPECT_EQ(found.exit_code + lists.exit_code, 0) << found << lists;
    return sorted(found.out) + lists.out;
  }
  static std::string sorted(const std::string& lines) {
    return run_program({"sh", "-c", "printf %s \"$0\" | LC_ALL=C sort", lines}).out;
  }
};

// "name=0 " or "name=EPERM ".
std::string answer(const std::string& name, long result) {
  return name + "=" + (result >= 0 ? "0" : errno_name(errno)) + " ";
}

std::string answer_of_open(const std::string& name, const std::string& path, int flags) {
  const int error = open_error(path, flags);
  return name + "=" + (error == 0 ? "0" : errno_name(error)) + " ";
}

bool has(const std::string& answers, const std::string& one) { return answers.find(one + " ") != std::string::npos; }

void give(const std::string& path, uid_t uid, gid_t gid, mode_t mode) {
  ASSERT_EQ(::lchown(path.c_str(), uid, gid), 0);
  ASSERT_EQ(::chmod(path.c_str(), mode), 0);
}

void set_acl(const std::string& path, const std::string& entries) {
  const auto result = run_program({"setfacl", "-m", entries, path});
  ASSERT_EQ(result.exit_code, 0) << result;
}

// More groups than fit into one word or page of anything, the one that counts the last of them.
std::vector<gid_t> many_groups() {
  std::vector<gid_t> groups;
  for (gid_t group = 30000; group < 30300; ++group) groups.push_back(group);
  groups.push_back(kTeam);
  return groups;
}

std::string use_of_team_files(const std::string& dir) {
  std::string answers;
  for (const std::string name : {"/read", "/write"}) {
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
      answers += answer_of_open("open" + name + std::to_string(flags), dir + name, flags);
    }
  }
  answers += answer("make", ::mkdir((dir + "/shared/new").c_str(), 02775));
  answers += answer_of_open("create", dir + "/shared/file", O_RDWR | O_CREAT);
  answers += answer("give", ::chown((dir + "/mine").c_str(), static_cast<uid_t>(-1), kTeam));
  answers += answer("setgid", ::chmod((dir + "/mine").c_str(), 02750));
  answers += answer("access", ::access((dir + "/write").c_str(), W_OK));
  return answers;
}

void lay_out_team(const std::string& dir) {
  for (const std::string name : {"/read", "/write", "/mine"}) write_file(dir + name, "contents");
  make_dir(dir + "/shared");
  give(dir + "/read", 0, kTeam, 0640);
  give(dir + "/write", 0, kTeam, 0620);
  give(dir + "/mine", kStranger, kStrangerGroup, 0644);
  give(dir + "/shared", 0, kTeam, 02770);
}

TEST_F(OtherUsersTest, SupplementaryGroupsDecide) {
  prepare(lay_out_team);
  const std::string without = answers_to(use_of_team_files, {kTeam + 1});
  EXPECT_TRUE(has(without, "open/read0=EACCES") && has(without, "make=EACCES") && has(without, "give=EPERM"));
}

TEST_F(OtherUsersTest, LastOfManySupplementaryGroupsDecidesToo) {
  prepare(lay_out_team);
  const std::string with = answers_to(use_of_team_files, many_groups());
  EXPECT_TRUE(has(with, "open/read0=0") && has(with, "open/read1=EACCES") && has(with, "open/write1=0")) << with;
  EXPECT_TRUE(has(with, "make=0") && has(with, "create=0") && has(with, "give=0") && has(with, "setgid=0")) << with;
  EXPECT_EQ(stat_of(source("mirrored/mine")).st_mode & 07777, 02750u);
  EXPECT_EQ(stat_of(source("mirrored/shared/file")).st_gid, kTeam);
}

// As in /tmp: whoever may write the directory makes names there, but takes away only his own.
TEST_F(OtherUsersTest, StickyDirectoriesKeepWhatBelongsToOthers) {
  prepare([](const std::string& dir) {
    make_dir(dir + "/tmp", 01777);
    make_dir(dir + "/his", 01777);
    for (const std::string name : {"/tmp/f", "/tmp/g", "/tmp/own", "/his/f"}) {
      write_file(dir + name, "contents");
      give(dir + name, 0, 0, 0666);
    }
    make_dir(dir + "/tmp/d", 0777);
    give(dir + "/tmp/own", kStranger, kStrangerGroup, 0600);
    give(dir + "/his", kStranger, kStrangerGroup, 01777);
  });
  const std::string answers = answers_to([](const std::string& dir) {
    const auto path = [&](const char* name) { return dir + name; };
    const auto rename = [&](const char* what, const char* from, const char* to, unsigned flags = 0) {
      return answer(what, ::renameat2(AT_FDCWD, path(from).c_str(), AT_FDCWD, path(to).c_str(), flags));
    };
    std::string all;
    all += answer("unlink", ::unlink(path("/tmp/f").c_str()));
    all += answer("rmdir", ::rmdir(path("/tmp/d").c_str()));
    all += rename("rename", "/tmp/f", "/tmp/new");
    all += rename("away", "/tmp/f", "/his/new");
    all += rename("replace", "/tmp/own", "/tmp/f");
    all += rename("exchange", "/tmp/own", "/tmp/f", RENAME_EXCHANGE);
    all += rename("directory", "/tmp/d", "/tmp/e");
    all += answer_of_open("create", path("/tmp/mine"), O_RDWR | O_CREAT | O_EXCL);
    // Rules of the kernel's own (fs.protected_regular, fs.protected_hardlinks), where they are on.
    all += answer_of_open("creat of another's", path("/tmp/f"), O_RDWR | O_CREAT);
    all += answer("link", ::link(path("/tmp/f").c_str(), path("/tmp/link").c_str()));
    all += answer("xattr", ::setxattr(path("/tmp").c_str(), "user.x", "1", 1, 0));
    all += rename("own", "/tmp/own", "/tmp/renamed");
    all += answer("own directory", ::unlink(path("/his/f").c_str()));
    return all;
  });
  for (const std::string one : {"unlink=EPERM", "rmdir=EPERM", "rename=EPERM", "away=EPERM", "replace=EPERM",
                                "exchange=EPERM", "directory=EPERM", "create=0", "own=0", "own directory=0"}) {
    EXPECT_TRUE(has(answers, one)) << one << " in " << answers;
  }
}

std::string opens_of_all(const std::string& dir) {
  std::string answers;
  for (const std::string& name : list_dir(dir)) {
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR | O_APPEND}) {
      answers += answer_of_open(name + std::to_string(flags & O_ACCMODE), dir + "/" + name, flags);
    }
    answers += answer(name + "x", ::access((dir + "/" + name).c_str(), X_OK));
  }
  return answers;
}

TEST_F(OtherUsersTest, AccessListsGrantAndDenyByUserGroupAndMask) {
  const std::string user = "u:" + std::to_string(kStranger);
  const std::string group = "g:" + std::to_string(kStrangerGroup);
  const std::string team = "g:" + std::to_string(kTeam);
  prepare([&](const std::string& dir) {
    const std::vector<std::array<std::string, 2>> lists{
        {"user-granted", user + ":rw,o::-"},
        {"user-denied", user + ":-,o::rw"},
        {"user-masked", user + ":rw,o::-,m::r"},
        {"all-masked", user + ":rwx,m::-,o::rwx"},
        {"group-granted", group + ":rw,o::-"},
        {"group-denied", group + ":-,o::rw"},
        {"team-granted", team + ":rw,o::-"},
        {"team-masked", team + ":rwx,m::x,o::-"},
        {"two-groups", group + ":r," + team + ":w,o::-"},
        {"user-before-group", user + ":r," + group + ":rw,o::rw"},
    };
    for (const auto& [name, entries] : lists) {
      write_file(dir + "/" + name, "contents");
      set_acl(dir + "/" + name, entries);
    }
  });
  const std::string alone = answers_to(opens_of_all);
  for (const std::string one : {"user-granted1=0", "user-denied0=EACCES", "user-masked0=0", "user-masked1=EACCES",
                                "group-denied0=EACCES", "team-granted0=EACCES"}) {
    EXPECT_TRUE(has(alone, one)) << one << " in " << alone;
  }
  const std::string in_team = answers_to(opens_of_all, {kTeam});
  EXPECT_TRUE(has(in_team, "team-granted1=0") && has(in_team, "team-masked0=EACCES")) << in_team;
}

TEST_F(OtherUsersTest, DefaultAccessListsHoldAgainstTheUmask) {
  prepare([](const std::string& dir) {
    const std::vector<std::array<std::string, 2>> lists{
        {"/none", ""},
        {"/plain", "d:u::rwx,d:g::rx,d:o::-"},  // without a mask
        {"/masked", "d:u:4242:rwx,d:g::rwx,d:m::rx,d:o::x"},
        {"/closed", "d:u::-,d:g::-,d:o::-"},
        {"/team", "d:g:" + std::to_string(kTeam) + ":rwx,d:o::-"},
    };
    for (const auto& [name, entries] : lists) {
      make_dir(dir + name, 0777);
      if (!entries.empty()) set_acl(dir + name, entries);
    }
  });
  for (const mode_t mask : {0000, 0022, 0077, 0777}) {
    SCOPED_TRACE(mask);
    const std::string answers = answers_to([&](const std::string& dir) {
      ::umask(mask);
      std::string all;
      for (const std::string& name : list_dir(dir)) {
        const std::string base = dir + "/" + name + "/" + std::to_string(mask);
        all += answer_of_open(name, base + "file", O_RDWR | O_CREAT);
        all += answer("dir", ::mkdir((base + "dir").c_str(), 0777));
        all += answer("fifo", ::mkfifo((base + "fifo").c_str(), 0666));
        all += answer("below", ::mkdir((base + "dir/below").c_str(), 0777));  // what it has inherited decides
      }
      return all;
    });
    EXPECT_TRUE(has(answers, "plain=0")) << answers;
  }
  EXPECT_EQ(stat_of(source("mirrored/plain/63file")).st_mode & 0777, 0640u) << "the umask 0077 counts for nothing";
  EXPECT_EQ(stat_of(source("mirrored/none/63file")).st_mode & 0777, 0600u);
}

// An access list set by its owner, who is not of the file's group, takes the set-group-id bit away (POSIX).
TEST_F(OtherUsersTest, AccessListsAreForTheOwnerToSet) {
  prepare([](const std::string& dir) {
    for (const std::string name : {"/own", "/team", "/roots"}) write_file(dir + name, "contents");
    give(dir + "/own", kStranger, kStrangerGroup, 02750);
    give(dir + "/team", kStranger, kTeam, 02750);
    give(dir + "/roots", 0, 0, 0666);
  });
  const std::string answers = answers_to([](const std::string& dir) {
    std::string all;
    for (const std::string name : {"/own", "/team", "/roots"}) {
      const auto result = run_program({"setfacl", "-m", "u:4242:rwx", dir + name});
      all += name + "=" + std::to_string(result.exit_code) + " ";
      all += answer("remove" + name, ::removexattr((dir + name).c_str(), "system.posix_acl_default"));
    }
    return all;
  });
  EXPECT_TRUE(has(answers, "/own=0") && has(answers, "/team=0") && has(answers, "/roots=1")) << answers;
  EXPECT_EQ(stat_of(source("mirrored/own")).st_mode & 07000, 02000u);
  EXPECT_EQ(stat_of(source("mirrored/team")).st_mode & 07000, 0u);
}

// The names of the attributes that this process sees.
std::string names_of_attributes(const std::string& path) {
  std::string names(1000, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) return errno_name(errno);
  names.resize(static_cast<std::size_t>(size));
  for (char& byte : names) byte = byte == '\0' ? ' ' : byte;
  return names;
}

TEST_F(OtherUsersTest, AttributesOfTheSystemAreNotForStrangers) {
  const std::string capability = net_raw_capability();
  prepare([&](const std::string& dir) {
    write_file(dir + "/own", "contents");
    give(dir + "/own", kStranger, kStrangerGroup, 0755);
    for (const std::string name : {"user.u", "security.s", "trusted.t"}) {
      ASSERT_EQ(::setxattr((dir + "/own").c_str(), name.c_str(), "1", 1, 0), 0) << errno_name(errno);
    }
    ASSERT_EQ(::setxattr((dir + "/own").c_str(), "security.capability", capability.data(), capability.size(), 0), 0);
  });
  const std::string answers = answers_to([&](const std::string& dir) {
    const std::string path = dir + "/own";
    std::string all;
    for (const std::string name : {"user.u", "security.s", "trusted.t", "security.capability"}) {
      all += answer("get " + name, ::getxattr(path.c_str(), name.c_str(), nullptr, 0));
      all += answer("set " + name, ::setxattr(path.c_str(), name.c_str(), capability.data(), capability.size(), 0));
      all += answer("remove " + name, ::removexattr(path.c_str(), name.c_str()));
    }
    return all;
  });
  for (const std::string one : {"set security.s=EPERM", "remove security.s=EPERM", "set security.capability=EPERM",
                                "remove security.capability=EPERM", "get trusted.t=ENODATA", "get user.u=0"}) {
    EXPECT_TRUE(has(answers, one)) << one << " in " << answers;
  }
}

// listxattr(2) names no trusted.* to whoever may not read them.
TEST_F(OtherUsersTest, NamesOfTrustedAttributesAreNotForStrangers) {
  prepare([&](const std::string& dir) {
    write_file(dir + "/f", "contents");
    for (const std::string name : {"user.u", "trusted.t"}) {
      ASSERT_EQ(::setxattr((dir + "/f").c_str(), name.c_str(), "1", 1, 0), 0) << errno_name(errno);
    }
  });
  const std::string names = answers_to([&](const std::string& dir) { return names_of_attributes(dir + "/f"); });
  EXPECT_TRUE(has(names, "user.u")) << names;
}

// Times of one's choice are the owner's to set, who may write may say "now"; and a file that others own keeps its mode,
// its owner and its group.
TEST_F(OtherUsersTest, AttributesAreTheOwnersToChange) {
  prepare([](const std::string& dir) {
    write_file(dir + "/f", "contents");
    give(dir + "/f", 4242, kTeam, 0666);
  });
  const std::string answers = answers_to(
      [](const std::string& dir) {
        const std::string path = dir + "/f";
        const std::array<timespec, 2> then{timespec{1000, 0}, timespec{2000, 0}};
        const std::array<timespec, 2> omitted{timespec{0, UTIME_NOW}, timespec{0, UTIME_OMIT}};
        const UniqueFd fd = open_file(path, O_RDWR);
        std::string all;
        all += answer("then", ::utimensat(AT_FDCWD, path.c_str(), then.data(), 0));
        all += answer("then by descriptor", ::futimens(fd.get(), then.data()));
        all += answer("now", ::futimens(fd.get(), nullptr));
        all += answer("access time now", ::utimensat(AT_FDCWD, path.c_str(), omitted.data(), 0));
        all += answer("chmod", ::chmod(path.c_str(), 0777));
        all += answer("fchmod", ::fchmod(fd.get(), 0777));
        all += answer("chown", ::chown(path.c_str(), kStranger, static_cast<gid_t>(-1)));
        all += answer("fchown", ::fchown(fd.get(), static_cast<uid_t>(-1), kStrangerGroup));
        return all;
      },
      {kTeam});
  for (const std::string one : {"then=EPERM", "then by descriptor=EPERM", "now=0", "chmod=EPERM", "fchmod=EPERM",
                                "chown=EPERM", "fchown=EPERM"}) {
    EXPECT_TRUE(has(answers, one)) << one << " in " << answers;
  }
}

}  // namespace
}  // namespace flockfs::test
