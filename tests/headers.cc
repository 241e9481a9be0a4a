// Only there because a precompiled header belongs to a library that has a source (CMakeLists.txt).
