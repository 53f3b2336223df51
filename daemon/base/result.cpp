#include "daemon/base/result.h"

#include <cerrno>
#include <cstring>

namespace culprit {

std::string_view code_name(Code code) {
  switch (code) {
    case Code::NotFound: return "not_found";
    case Code::Invalid: return "invalid";
    case Code::Unsupported: return "unsupported";
    case Code::Denied: return "denied";
    case Code::Busy: return "busy";
    case Code::Corrupt: return "corrupt";
    case Code::Io: return "io";
    case Code::Exhausted: return "exhausted";
  }
  return "unknown";
}

std::unexpected<Error> fail_errno(int error, std::string_view what) {
  Code code = Code::Io;
  switch (error) {
    case ENOENT:
    case ESRCH: code = Code::NotFound; break;
    case EISDIR:
    case ENOTDIR:
    case ENAMETOOLONG: code = Code::Invalid; break;
    case EPERM:
    case EACCES: code = Code::Denied; break;
    case EAGAIN:
    case EBUSY:
    case EADDRINUSE: code = Code::Busy; break;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC: code = Code::Exhausted; break;
    case ENOSYS:
    case EOPNOTSUPP: code = Code::Unsupported; break;
    default: break;
  }
  return fail(code, std::string(what) + ": " + std::strerror(error));
}

}  // namespace culprit
