# What every target of ours is compiled with. Targets link culprit_options; nothing here is global except the standard.
set(CULPRIT_SANITIZE "" CACHE STRING "sanitizers for everything, e.g. address,undefined")
option(CULPRIT_FUZZ "build the fuzzers (clang only)" OFF)
option(CULPRIT_LINT "thread-safety analysis and clang-tidy (clang only)" OFF)

set(CMAKE_CXX_STANDARD 23)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 17)
# Lines in stack traces, but no variables: a third of the size and of the time to build.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
if(CULPRIT_FUZZ)
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")  # our own assertions are findings too
endif()
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(CCACHE ccache)
if(CCACHE)
  # The precompiled header makes ccache careful; these are the checks its manual says to relax for one.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(culprit_options INTERFACE)
target_include_directories(culprit_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(culprit_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Werror $<$<COMPILE_LANGUAGE:CXX>:-Wconversion>
  $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
# g++ (12 to 14 were tried) sees overflows in std::string (GCC bugs 105329, 105651) and unset members in moved std::expected,
# std::optional and std::stop_token that are not there. What is there, the sanitizers of the dev preset find.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(culprit_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds -Wno-restrict -Wno-stringop-overflow -Wno-stringop-overread -Wno-maybe-uninitialized>)
endif()
# clang over libstdc++ 12 reports, behind the precompiled header, what std::stable_sort itself uses.
target_compile_options(culprit_options INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wno-deprecated-declarations>)
find_program(MOLD mold)
if(MOLD)
  target_link_options(culprit_options INTERFACE -fuse-ld=mold)
endif()
if(CULPRIT_SANITIZE)
  add_compile_options(-fsanitize=${CULPRIT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CULPRIT_SANITIZE})
endif()
if(CULPRIT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(CULPRIT_LINT)
  add_compile_options(-Wthread-safety)
  find_program(CLANG_TIDY clang-tidy-19 REQUIRED)
  set(CMAKE_CXX_CLANG_TIDY ${CLANG_TIDY})
endif()
