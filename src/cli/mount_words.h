#pragma once

#include <span>
#include <string_view>

namespace flockfs {

// A word that "-o" takes besides flockfs's own options.
struct MountWord {
  enum class Kind {
    kFlags,    // a generic mount option: changes the MS_* flags of mount(2)
    kDropped,  // the business of mount(8) or fstab(5); may imply flags
    kRefused,  // what people may try, with the reason why not
  };

  std::string_view name;  // one that ends in '*' stands for all that begin so
  Kind kind = Kind::kFlags;
  unsigned long set = 0;    // MS_* flags that it sets...
  unsigned long clear = 0;  // ...and clears
  std::string_view reason;  // kRefused: the rest of the message
};

std::span<const MountWord> mount_words();

// The word that `name` (as typed) is, or null.
const MountWord* find_mount_word(std::string_view name);

}  // namespace flockfs
