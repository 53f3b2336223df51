// Names of system calls of this architecture, for labels.
#pragma once

#include <string>

namespace culprit::track {

// 1 -> "write" (x86-64); "sys_999" if unknown.
std::string syscall_name(unsigned number);

}  // namespace culprit::track
