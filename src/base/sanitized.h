#pragma once

// What g++ and clang++ say of -fsanitize=..., each in its own way.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FLOCKFS_ADDRESS_SANITIZER 1
#endif
#if __has_feature(thread_sanitizer)
#define FLOCKFS_THREAD_SANITIZER 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define FLOCKFS_ADDRESS_SANITIZER 1
#endif
#ifdef __SANITIZE_THREAD__
#define FLOCKFS_THREAD_SANITIZER 1
#endif

namespace flockfs {

// Whether this is a build with a sanitizer: slower, and with larger frames.
#if defined(FLOCKFS_ADDRESS_SANITIZER) || defined(FLOCKFS_THREAD_SANITIZER)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace flockfs
