#include "daemon/stream/codec.h"

#include <gmock/gmock.h>

#include <sstream>

#include "tests/stream/support.h"

namespace culprit::stream {
namespace {

Event full_event() {
  Event event;
  event.time_ns = -17;
  event.kind = Kind::Span;
  event.severity = kError;
  event.entity = "service:shop";
  event.name = "GET /items/{id}";
  event.value = 0.1;
  event.trace_id[0] = 0x0123456789abcdef;
  event.trace_id[1] = 0xfedcba9876543210;
  event.span_id = 0xff;
  event.attributes = {{"process.pid", "7"}, {"note", "quote \" and\nline"}};
  event.body = "body \xC3\xA9";
  return event;
}

TEST(CodecTest, JsonIsWhatTheDocumentSays) {
  EXPECT_EQ(encode_json(full_event()),
            R"({"time_ns":-17,"kind":"span","severity":17,"entity":"service:shop","name":"GET /items/{id}",)"
            R"("value":0.1,"trace_id":"0123456789abcdeffedcba9876543210","span_id":"00000000000000ff",)"
            R"("attributes":{"process.pid":"7","note":"quote \" and\nline"},"body":"body é"})");
  EXPECT_EQ(encode_json(Event{}), R"({"time_ns":0,"kind":"sample"})");
}

// Bit for bit, in both forms: compared as bytes, which tell -0.0 from 0.0.
TEST(CodecTest, BothRoundTripsAreExact) {
  std::vector<Event> events = {full_event(), Event{}};
  for (const double value : {-0.0, 1e-320, 1.7976931348623157e308, 0.1 + 0.2, std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    events.push_back(sample(INT64_MAX, "host", "x", value));
  }
  Event odd = full_event();
  odd.attributes = {{"twice", "1"}, {"twice", "2"}, {"\xff", "\x80"}};
  odd.body = std::string("\0\xff\xfe nul", 7);
  odd.entity = "\xed\xa0\x80";
  odd.time_ns = INT64_MIN;
  events.push_back(odd);
  RandomEvents random(test_seed());
  for (int i = 0; i < 500; ++i) events.push_back(random.event(0));
  for (const Event& event : events) {
    std::string bytes, again;
    encode_bytes(event, bytes);
    std::string_view rest = bytes;
    const auto from_bytes = decode_bytes(rest);
    ASSERT_TRUE(from_bytes);
    EXPECT_TRUE(rest.empty());
    encode_bytes(*from_bytes, again);
    EXPECT_EQ(bytes, again);
    const std::string line = encode_json(event);
    const auto from_json = decode_json(line);
    ASSERT_TRUE(from_json) << line << from_json.error().message;
    again.clear();
    encode_bytes(*from_json, again);
    EXPECT_EQ(bytes, again) << line;
  }
}

TEST(CodecTest, BadJsonIsRefusedWithItsPlace) {
  const struct { const char* line; const char* says; } cases[] = {
      {"", "not JSON"},
      {"[]", "not an object"},
      {R"({"time_ns":1,"kind":"log")", "not JSON at byte"},
      {R"({"kind":"log"})", "'time_ns' is missing"},
      {R"({"time_ns":1})", "'kind' is missing"},
      {R"({"time_ns":1,"kind":"lgo"})", "kinds are sample"},
      {R"({"time_ns":1.5,"kind":"log"})", "'time_ns'"},
      {R"({"time_ns":18446744073709551615,"kind":"log"})", "'time_ns'"},
      {R"({"time_ns":1,"kind":"log","severity":256})", "'severity'"},
      {R"({"time_ns":1,"kind":"log","severity":-1})", "'severity'"},
      {R"({"time_ns":1,"kind":"log","value":"many"})", "'value'"},
      {R"({"time_ns":1,"kind":"log","trace_id":"12"})", "'trace_id'"},
      {R"({"time_ns":1,"kind":"log","span_id":"000000000000000g"})", "'span_id'"},
      {R"({"time_ns":1,"kind":"log","attributes":7})", "'attributes'"},
      {R"({"time_ns":1,"kind":"log","attributes":{"a":7}})", "attributes.a"},
      {R"({"time_ns":1,"kind":"log","body":{"base64":"?"}})", "'body'"},
      {R"({"time_ns":1,"kind":"log","bdoy":"x"})", "unknown field 'bdoy'"},
      {R"({"time_ns":1,"kind":"log","value":1e999})", "not JSON"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.line);
    const auto event = decode_json(c.line);
    ASSERT_FALSE(event);
    EXPECT_EQ(event.error().code, Code::Invalid);
    EXPECT_THAT(event.error().message, ::testing::HasSubstr(c.says));
  }
  EXPECT_FALSE(decode_json(std::string(20'000, '[')));
}

TEST(CodecTest, FilesAreReadLineByLineAndSayTheLine) {
  std::stringstream file;
  file << encode_json(full_event()) << '\n' << encode_json(Event{}) << "\n\r\n\n";
  const auto events = read_json_lines(file);
  ASSERT_TRUE(events);
  EXPECT_EQ(events->size(), 2u);
  std::istringstream bad("{\"time_ns\":1,\"kind\":\"log\"}\n\nnonsense\n");
  const auto failed = read_json_lines(bad);
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error().message, ::testing::StartsWith("line 3: not JSON"));
  std::istringstream endless(std::string(kLineBytesMax + 10, 'x'));
  EXPECT_FALSE(read_json_lines(endless));
}

// Every cut is refused, and no damaged byte does worse than another event or a refusal.
TEST(CodecTest, DamagedBytesAreRefused) {
  std::string bytes;
  encode_bytes(full_event(), bytes);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    std::string_view rest = std::string_view(bytes).substr(0, size);
    const auto event = decode_bytes(rest);
    ASSERT_FALSE(event) << size;
    EXPECT_EQ(event.error().code, Code::Corrupt);
    EXPECT_THAT(event.error().message, ::testing::HasSubstr("at byte"));
  }
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      std::string_view rest = damaged;
      (void)decode_bytes(rest);
    }
  }
}

}  // namespace
}  // namespace culprit::stream
