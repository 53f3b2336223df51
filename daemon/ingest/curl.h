// libcurl's objects as Handles, for the sources that ask others.
#pragma once

#include <curl/curl.h>

#include "daemon/base/handle.h"

namespace culprit::ingest {

using Curl = Handle<CURL, curl_easy_cleanup>;
using CurlMulti = Handle<CURLM, curl_multi_cleanup>;
using CurlHeaders = Handle<curl_slist, curl_slist_free_all>;

}  // namespace culprit::ingest
