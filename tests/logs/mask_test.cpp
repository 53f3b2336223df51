#include "daemon/logs/mask.h"

#include <gtest/gtest.h>

namespace culprit::logs {
namespace {

TEST(MaskTest, ValuesBecomeWildcards) {
  const struct { const char *message, *masked; } cases[] = {
      {"took 12ms, 3.5 MB at 99%", "took <*>, <*> MB at <*>"},
      {"from 10.1.2.3:4567 to [fe80::1]", "from <*> to [<*>]"},
      {"dest /10.1.2.3:50010", "dest <*>"},
      {"mac 00:0D:60:EA:E0:8D up", "mac <*> up"},
      {"id b9000564-fe1a-409b-b8cc-1e88b294cd1d", "id <*>"},
      {"req-b9000564-fe1a-409b-b8cc-1e88b294cd1d done", "req-<*> done"},
      {"block blk_-17 and blk_17", "block blk_<*> and blk_<*>"},
      {"open /var/log/a.log: No such file", "open <*>: No such file"},
      {"GET http://shop/items?id=1 done", "GET <*> done"},
      {"\"GET /items/7?x=1 HTTP/1.1\" 200", "\"GET <*> HTTP/<*>\" <*>"},
      {"uid=0 user=alice rhost= port=", "uid=<*> user=<*> rhost=<*> port=<*>"},
      {"a == b and c = d", "a == b and c = d"},
      {"list 1, 2, 3 and 1##2##3", "list <*>, <*> and <*>"},
      {"at Sat Jun 18 02:23:10 2005", "at <*>"},
      {"hash deadbeef01 0x1f", "hash <*>"},
      {"address: () or (x)", "address: (<*>) or (x)"},
      {"init() ok", "init() ok"},
      {"enabled is true", "enabled is <*>"},
      {"and/or N/A TCP/IP", "and/or N/A TCP/IP"},
      {"may fail", "may fail"},
      {"", ""},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.message);
    Masked masked;
    mask(c.message, 100, masked);
    EXPECT_EQ(masked.text, c.masked);
    EXPECT_EQ(masked.words.size() + 1, masked.raw_begin.size());
  }
}

TEST(MaskTest, WordsBeyondTheLimitAreLeftOut) {
  Masked masked;
  mask("a b c d", 2, masked);
  EXPECT_EQ(masked.text, "a b");
}

TEST(MaskTest, ValuesAndWordsAreToldApart) {
  EXPECT_TRUE(differ_in_values("ns1.example.<*>", "ns.example.<*>"));
  EXPECT_TRUE(differ_in_values("db.example.net", "mail.example.org"));
  EXPECT_FALSE(differ_in_values("depth..<*>", "threshold..<*>"));
  EXPECT_FALSE(differ_in_values("Started", "Stopped"));
}

}  // namespace
}  // namespace culprit::logs
