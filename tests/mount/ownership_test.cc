// DESIGN 4.8 and issue 2, "It shall not": what is made belongs to the caller; setgid directories, umask and default
// ACLs hold; and what the source's own permissions refuse is refused.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/program.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

using Work = std::function<void(const std::string& dir)>;

// Two directories that are set up alike, of which the first is used directly and the second through the mirror: the
// same work as the same user must leave the same owners, groups and modes. No rule of Linux has to be repeated here for
// that.
class OwnershipTest : public PassthroughTest {
 protected:
  void SetUp() override {
    for (const std::string name : {"native", "mirrored"}) make_dir(source(name), 0777);
  }
  void for_both(const Work& work) {
    for (const std::string name : {"native", "mirrored"}) work(source(name));
  }
  void run_as_stranger(const Work& work, const std::vector<gid_t>& groups = {}) {
    const auto run = [&](const std::string& dir) {
      EXPECT_TRUE(in_child([&] {
        become_user(kStranger, kStrangerGroup, groups);
        work(dir);
      })) << dir;
    };
    run(source("native"));
    run(mnt("mirrored"));
  }
  void expect_same() {
    const auto names = list_dir(source("native"));
    EXPECT_FALSE(names.empty());
    EXPECT_EQ(names, list_dir(source("mirrored")));
    for (const std::string& name : names) {
      SCOPED_TRACE(name);
      const struct stat native = stat_of(source("native/" + name));
      const struct stat mirrored = stat_of(source("mirrored/" + name));
      EXPECT_EQ(native.st_uid, mirrored.st_uid);
      EXPECT_EQ(native.st_gid, mirrored.st_gid);
      EXPECT_EQ(native.st_mode, mirrored.st_mode) << std::oct << native.st_mode << " " << mirrored.st_mode;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, OwnershipTest, BothPassthroughs(), passthrough_name);

// One of each kind, with modes that a umask and a setgid directory act upon.
void make_all(const std::string& dir) {
  EXPECT_EQ(open_error(dir + "/file", O_WRONLY | O_CREAT, 0666), 0);
  EXPECT_EQ(open_error(dir + "/exclusive", O_RDWR | O_CREAT | O_EXCL, 0777), 0);
  EXPECT_EQ(open_error(dir + "/setgid-file", O_RDWR | O_CREAT, 02775), 0);
  EXPECT_EQ(open_error(dir + "/setuid-file", O_RDWR | O_CREAT, 04755), 0);
  EXPECT_EQ(open_error(dir + "/unreadable", O_RDWR | O_CREAT, 0), 0);
  EXPECT_EQ(::mkdir((dir + "/dir").c_str(), 0777), 0);
  EXPECT_EQ(::mkdir((dir + "/setgid-dir").c_str(), 02777), 0);
  EXPECT_EQ(::mkdir((dir + "/sticky-dir").c_str(), 01777), 0);
  EXPECT_EQ(::mkfifo((dir + "/fifo").c_str(), 0666), 0);
  EXPECT_EQ(::mknod((dir + "/socket").c_str(), S_IFSOCK | 0777, 0), 0);
  EXPECT_EQ(::mknod((dir + "/node").c_str(), S_IFREG | 02777, 0), 0);
  EXPECT_EQ(::symlink("target", (dir + "/link").c_str()), 0);
  const UniqueFd fd = open_file(dir, O_TMPFILE | O_RDWR, 02777);
  const std::string self = "/proc/self/fd/" + std::to_string(fd.get());
  EXPECT_EQ(::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, (dir + "/tmpfile").c_str(), AT_SYMLINK_FOLLOW), 0);
}

TEST_P(OwnershipTest, WhatIsMadeBelongsToTheCaller) {
  mount();
  run_as_stranger(make_all);
  expect_same();
  EXPECT_EQ(stat_of(source("mirrored/file")).st_uid, kStranger);
  EXPECT_EQ(stat_of(source("mirrored/file")).st_gid, kStrangerGroup);
}

TEST_P(OwnershipTest, WhatRootMakesBelongsToRoot) {
  mount();
  for (const std::string& dir : {source("native"), mnt("mirrored")}) EXPECT_TRUE(in_child([&] { make_all(dir); }));
  expect_same();
  EXPECT_EQ(stat_of(source("mirrored/file")).st_uid, 0u);
}

TEST_P(OwnershipTest, SetgidDirectoryGivesItsGroup) {
  for_both([](const std::string& dir) {
    ASSERT_EQ(::chown(dir.c_str(), 0, kTeam), 0);
    ASSERT_EQ(::chmod(dir.c_str(), 02777), 0);
  });
  mount();
  run_as_stranger(make_all);
  expect_same();
  EXPECT_EQ(stat_of(source("mirrored/file")).st_gid, kTeam);
  EXPECT_EQ(stat_of(source("mirrored/dir")).st_mode & S_ISGID, static_cast<mode_t>(S_ISGID));
}

// Whether a setgid bit survives there depends on the caller's groups.
TEST_P(OwnershipTest, SetgidDirectoryOfASupplementaryGroup) {
  for_both([](const std::string& dir) {
    ASSERT_EQ(::chown(dir.c_str(), 0, kTeam), 0);
    ASSERT_EQ(::chmod(dir.c_str(), 02770), 0);
  });
  mount();
  run_as_stranger(make_all, {kTeam, 777});
  expect_same();
}

TEST_P(OwnershipTest, SetgidDirectoryOfTheCallersOwnGroup) {
  for_both([](const std::string& dir) {
    ASSERT_EQ(::chown(dir.c_str(), 0, kStrangerGroup), 0);
    ASSERT_EQ(::chmod(dir.c_str(), 02777), 0);
  });
  mount();
  run_as_stranger(make_all);
  expect_same();
}

TEST_P(OwnershipTest, UmaskOfTheCallerHolds) {
  mount();
  for (const mode_t mask : {0000, 0027, 0077, 0777}) {
    SCOPED_TRACE(mask);
    const std::string sub = "/" + std::to_string(mask);
    for_both([&](const std::string& dir) { make_dir(dir + sub, 0777); });
    const auto work = [&](const std::string& dir) {
      ::umask(mask);
      make_all(dir + sub);
    };
    run_as_stranger(work);
    for (const std::string& name : list_dir(source("native") + sub)) {
      EXPECT_EQ(stat_of(source("native") + sub + "/" + name).st_mode,
                stat_of(source("mirrored") + sub + "/" + name).st_mode)
          << name;
    }
  }
}

TEST_P(OwnershipTest, DefaultAclHoldsInPlaceOfTheUmask) {
  for_both([](const std::string& dir) {
    const auto result = run_program({"setfacl", "-m", "d:u:4242:rwx,d:g::rx,d:o::-,d:m::rwx", dir});
    ASSERT_EQ(result.exit_code, 0) << result;
  });
  mount();
  run_as_stranger([](const std::string& dir) {
    ::umask(0077);
    make_all(dir);
  });
  expect_same();
  for (const std::string name : {"file", "dir", "tmpfile", "fifo"}) {
    const auto acl = [&](const std::string& dir) {
      return run_program({"getfacl", "-cpn", source(dir + "/" + name)}).out;
    };
    EXPECT_EQ(acl("mirrored"), acl("native"));
    EXPECT_NE(acl("native").find("user:4242:"), std::string::npos);
  }
}

// Whoever is not of the file's group may not make it run as that group.
TEST_P(OwnershipTest, ChangesByTheOwnerAreThoseOfTheSource) {
  for_both([](const std::string& dir) {
    for (const std::string name : {"/his", "/team"}) {
      write_file(dir + name, "x");
      ASSERT_EQ(::chown((dir + name).c_str(), kStranger, name == "/his" ? kStrangerGroup : kTeam), 0);
    }
  });
  mount();
  run_as_stranger([](const std::string& dir) {
    for (const std::string name : {"/his", "/team"}) {
      EXPECT_EQ(::chmod((dir + name).c_str(), 06755), 0);
      EXPECT_EQ(::utimensat(AT_FDCWD, (dir + name).c_str(), nullptr, 0), 0);
    }
  });
  expect_same();
  EXPECT_EQ(stat_of(source("mirrored/his")).st_mode & 07777, 06755u);
  EXPECT_EQ(stat_of(source("mirrored/team")).st_mode & 07777, 04755u);
}

TEST_P(OwnershipTest, TmpfsAsSourceGivesTheSameOwners) {
  ASSERT_EQ(mount_tmpfs(source()), 0);
  SetUp();
  for_both([](const std::string& dir) {
    ASSERT_EQ(::chown(dir.c_str(), 0, kTeam), 0);
    ASSERT_EQ(::chmod(dir.c_str(), 02777), 0);
  });
  mount();
  run_as_stranger(make_all);
  expect_same();
}

// Requests of different users at the same time: the identity belongs to the thread that serves the request.
TEST_P(OwnershipTest, UsersAtTheSameTimeDoNotMixUp) {
  mount();
  std::vector<Child> children;
  for (uid_t user = 20000; user < 20008; ++user) {
    children.emplace_back([=, this](Peer&) {
      become_user(user, user + 100);
      ::umask(user % 2 == 0 ? 0022 : 0077);
      for (int i = 0; i < 50; ++i) {
        const std::string name = mnt("mirrored/") + std::to_string(user) + "-" + std::to_string(i);
        write_file(name, "x", 0666);
        EXPECT_EQ(::mkdir((name + "-dir").c_str(), 0777), 0);
      }
    });
  }
  for (Child& child : children) EXPECT_TRUE(child.ends_well(kPatience * 2));
  for (const std::string& name : list_dir(source("mirrored"))) {
    const struct stat status = stat_of(source("mirrored/" + name));
    const auto user = static_cast<uid_t>(std::stoul(name));
    EXPECT_EQ(status.st_uid, user) << name;
    EXPECT_EQ(status.st_gid, user + 100) << name;
    EXPECT_EQ(status.st_mode & 0077,
              S_ISDIR(status.st_mode) ? (user % 2 == 0 ? 0055u : 0u) : (user % 2 == 0 ? 044u : 0u))
        << name;
  }
}

class PermissionTest : public PassthroughTest {};
INSTANTIATE_TEST_SUITE_P(Mount, PermissionTest, BothPassthroughs(), passthrough_name);

// The answers of everything a stranger might try, as a list of errno names.
std::string try_all(const std::string& dir) {
  std::string answers;
  const auto note = [&](const std::string& what, int result) {
    answers += what + "=" + (result == 0 ? "0" : errno_name(errno)) + " ";
  };
  const auto try_open = [&](const std::string& name, int flags) {
    const UniqueFd fd(::open((dir + name).c_str(), flags | O_CLOEXEC, 0666));
    note("open" + name + std::to_string(flags), fd ? 0 : -1);
  };
  for (const std::string name : {"/secret", "/readable", "/writable", "/own", "/closed/f", "/group"}) {
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY | O_TRUNC, O_RDONLY | O_NOATIME})
      try_open(name, flags);
    note("chmod" + name, ::chmod((dir + name).c_str(), 0666));
    note("chown" + name, ::chown((dir + name).c_str(), kStranger, static_cast<gid_t>(-1)));
    int truncated = 0;
    // EAGAIN: the lock of the opens above is given back only some time after they were closed.
    (void)eventually([&] { return (truncated = ::truncate((dir + name).c_str(), 1)) == 0 || errno != EAGAIN; });
    note("truncate" + name, truncated);
    note("access" + name, ::access((dir + name).c_str(), R_OK | W_OK));
    note("utimes" + name, ::utimensat(AT_FDCWD, (dir + name).c_str(), nullptr, 0));
    note("rename" + name, ::rename((dir + name).c_str(), (dir + name + "2").c_str()));
    note("unlink" + name, ::unlink((dir + name).c_str()));
  }
  note("create", open_error(dir + "/new", O_WRONLY | O_CREAT) == 0 ? 0 : -1);
  note("sticky", ::unlink((dir + "/sticky/f").c_str()));
  note("mknod", ::mknod((dir + "/sticky/dev").c_str(), S_IFCHR | 0666, makedev(1, 3)));
  note("chgrp", ::chown((dir + "/sticky/mine").c_str(), static_cast<uid_t>(-1), 4321));
  note("chgrp team", ::chown((dir + "/sticky/mine").c_str(), static_cast<uid_t>(-1), kTeam));
  note("execute", ::access((dir + "/readable").c_str(), X_OK));
  return answers;
}

void lay_out(const std::string& dir) {
  make_dir(dir, 0755);
  make_dir(dir + "/closed", 0700);
  make_dir(dir + "/sticky", 01777);
  for (const auto& [name, mode] : {std::pair<std::string, mode_t>{"/secret", 0600},
                                   {"/readable", 0644},
                                   {"/writable", 0666},
                                   {"/own", 0600},
                                   {"/closed/f", 0666},
                                   {"/group", 0660},
                                   {"/sticky/f", 0666},
                                   {"/sticky/mine", 0600}}) {
    write_file(dir + name, "contents");
    ASSERT_EQ(::chmod((dir + name).c_str(), mode), 0);
  }
  ASSERT_EQ(::chown((dir + "/own").c_str(), kStranger, kStrangerGroup), 0);
  ASSERT_EQ(::chown((dir + "/sticky/mine").c_str(), kStranger, kStrangerGroup), 0);
  ASSERT_EQ(::chown((dir + "/group").c_str(), 0, kTeam), 0);
}

TEST_P(PermissionTest, StrangerIsRefusedWhatTheSourceRefuses) {
  lay_out(source("native"));
  lay_out(source("mirrored"));
  mount();
  for (const std::vector<gid_t>& groups : {std::vector<gid_t>{}, std::vector<gid_t>{kTeam}}) {
    std::string answers[2];
    const std::string dirs[2] = {source("native"), mnt("mirrored")};
    for (int i = 0; i < 2; ++i) {
      Child child([&](Peer& test) {
        become_user(kStranger, kStrangerGroup, groups);
        test.say(try_all(dirs[i]));
      });
      answers[i] = child.hear().value_or("");
      EXPECT_TRUE(child.ends_well());
    }
    EXPECT_FALSE(answers[0].empty());
    EXPECT_EQ(answers[0], answers[1]);
  }
}

// Access control lists decide on the mirror as they do on the source: to let in, and to keep out.
TEST_P(PermissionTest, AccessListsOfTheSourceHold) {
  for (const std::string name : {"granted", "denied"}) write_file(source(name), "contents");
  ASSERT_EQ(::chmod(source("granted").c_str(), 0600), 0);
  ASSERT_EQ(::chmod(source("denied").c_str(), 0644), 0);
  const std::string user = "u:" + std::to_string(kStranger);
  ASSERT_EQ(run_program({"setfacl", "-m", user + ":r", source("granted")}).exit_code, 0);
  ASSERT_EQ(run_program({"setfacl", "-m", user + ":-", source("denied")}).exit_code, 0);
  mount();
  for (const std::string& path : {source("granted"), mnt("granted")}) {
    EXPECT_TRUE(in_child([&] {
      become_user();
      EXPECT_EQ(open_error(path, O_RDONLY), 0);
      EXPECT_EQ(open_error(path, O_RDWR), EACCES);
    })) << path;
  }
  for (const std::string& path : {source("denied"), mnt("denied")}) {
    EXPECT_TRUE(in_child([&] {
      become_user();
      EXPECT_EQ(open_error(path, O_RDONLY), EACCES);
    })) << path;
  }
}

TEST_P(PermissionTest, StrangerWaitsAndLocksLikeAnybody) {
  write_file(source("f"), "contents");
  ASSERT_EQ(::chmod(source("f").c_str(), 0666), 0);
  mount();
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener([&] {
    become_user();
    return ::open(mnt("f").c_str(), O_RDWR | O_CLOEXEC);
  });
  ASSERT_TRUE(mirror().waits(opener.pid()));
  foreign.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  opener.close();
}

TEST_P(PermissionTest, WithoutAllowOtherStrangersAreKeptOut) {
  write_file(source("f"), "contents");
  mount({.options = {"no_allow_other"}});
  EXPECT_TRUE(in_child([&] { EXPECT_EQ(read_file(mnt("f")), "contents"); }));
  EXPECT_TRUE(in_child([&] {
    become_user();
    EXPECT_EQ(open_error(mnt("f"), O_RDONLY), EACCES);
    EXPECT_FALSE(exists(mnt("f")));
  }));
}

}  // namespace
}  // namespace flockfs::test
