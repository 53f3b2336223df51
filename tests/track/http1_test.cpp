#include "daemon/track/protocol/http1.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "daemon/track/protocol/path.h"

namespace culprit::track {

namespace {

using Side = Http1Parser::Side;

struct Feed {
  std::string captured;
  std::uint64_t unseen = 0;
};

// "B200 H E" and so on: B begin, H head, E end, O open ended, U upgraded end.
std::string play(Side side, const std::vector<Feed>& feeds, bool head = false, bool connect = false) {
  Http1Parser parser(side);
  std::string told;
  std::vector<HttpEvent> out;
  for (const Feed& feed : feeds) {
    out.clear();
    parser.expect(head, connect);
    parser.feed(feed.captured, feed.captured.size() + feed.unseen, out);
    for (const HttpEvent& event : out) {
      if (!told.empty()) told += ' ';
      switch (event.type) {
        case HttpEvent::Type::Begin: told += side == Side::Requests ? "B:" + event.method + ":" + event.path : "B" + std::to_string(event.status); break;
        case HttpEvent::Type::Head: told += "H"; break;
        case HttpEvent::Type::End: told += event.upgraded ? "U" : "E"; break;
        case HttpEvent::Type::OpenEnded: told += "O"; break;
      }
    }
  }
  return told;
}

}  // namespace

// What the parser tells of messages, whole, in pieces, cut by the capture limit, and joined in the middle.
TEST(Http1, Messages) {
  const std::string ok5 = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
  const struct { const char* name; Side side; std::vector<Feed> feeds; const char* told; } cases[] = {
      {"request without body", Side::Requests, {{"GET /a?secret=1 HTTP/1.1\r\nHost: x\r\n\r\n"}}, "B:GET:/a H E"},
      {"absolute target", Side::Requests, {{"GET http://shop:80/a/b?x HTTP/1.1\r\n\r\n"}}, "B:GET:/a/b H E"},
      {"pipelined", Side::Requests, {{"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"}}, "B:GET:/a H E B:GET:/b H E"},
      {"body in the next call", Side::Requests, {{"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\n"}, {"data"}, {"GET /b HTTP/1.1\r\n\r\n"}}, "B:POST:/a H E B:GET:/b H E"},
      {"body beyond the capture", Side::Requests, {{"POST /a HTTP/1.1\r\ncontent-length: 1000\r\n\r\nxx", 998}, {"GET /b HTTP/1.1\r\n\r\n"}}, "B:POST:/a H E B:GET:/b H E"},
      {"headers beyond the capture, no body", Side::Requests, {{"GET /a HTTP/1.1\r\nCookie: xxxx", 400}, {"GET /b HTTP/1.1\r\n\r\n"}}, "B:GET:/a H E B:GET:/b H E"},
      {"headers beyond the capture, body", Side::Requests, {{"POST /a HTTP/1.1\r\nCookie: xxxx", 400}, {"more body"}, {"GET /b HTTP/1.1\r\n\r\n"}}, "B:POST:/a H O B:GET:/b H E"},
      {"first line beyond the capture", Side::Requests, {{"GET /a?xxxxxxxxxxxxxx", 400}, {"GET /b HTTP/1.1\r\n\r\n"}}, "B:GET:/a H E B:GET:/b H E"},
      {"in pieces", Side::Requests, {{"GET /a HT"}, {"TP/1.1\r\nHo"}, {"st: x\r\n\r"}, {"\n"}}, "B:GET:/a H E"},
      {"joined in the middle", Side::Requests, {{"rest of a body"}, {"GET /b HTTP/1.1\r\n\r\n"}}, "B:GET:/b H E"},
      {"no HTTP", Side::Requests, {{"GETX"}, {"\x16\x03\x01"}, {"*1\r\n$4\r\nPING\r\n"}}, ""},
      {"empty lines first", Side::Requests, {{"\r\n\r\nGET /a HTTP/1.1\r\n\r\n"}}, "B:GET:/a H E"},
      {"chunked request", Side::Requests, {{"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"}, {"3\r\nabc\r\n"}, {"0\r\n\r\n"}}, "B:POST:/a H E"},
      {"response with length", Side::Responses, {{ok5 + "hello"}}, "B200 H E"},
      {"two responses", Side::Responses, {{ok5 + "hello" + ok5 + "hello"}}, "B200 H E B200 H E"},
      {"body in another call", Side::Responses, {{ok5}, {"he"}, {"llo"}}, "B200 H E"},
      {"no body by status", Side::Responses, {{"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"}}, "B304 H E"},
      {"continue first", Side::Responses, {{"HTTP/1.1 100 Continue\r\n\r\n"}, {"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"}}, "B201 H E"},
      {"until close", Side::Responses, {{"HTTP/1.0 200 OK\r\n\r\nhello"}, {"more"}}, "B200 H O"},
      {"upgrade", Side::Responses, {{"HTTP/1.1 101 Switching Protocols\r\n\r\n"}, {"HTTP/1.1 200 OK\r\n\r\n"}}, "B101 H U"},
      {"chunked", Side::Responses, {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"}}, "B200 H E"},
      {"chunk ends unseen", Side::Responses, {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nxx", 2000}, {ok5 + "hello"}}, "B200 H O B200 H E"},
      {"chunk goes on unseen", Side::Responses, {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\nxx", 1022}, {"\r\n0\r\n\r\n"}}, "B200 H E"},
      {"bad chunk size", Side::Responses, {{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}}, "B200 H O"},
      {"body sent by sendfile", Side::Responses, {{"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"}, {ok5 + "hello"}}, "B200 H O B200 H E"},
      {"absurd length", Side::Responses, {{"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n"}}, "B200 H O"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    EXPECT_EQ(play(c.side, c.feeds), c.told);
  }
  EXPECT_EQ(play(Side::Responses, {{ok5}}, true), "B200 H E");             // of HEAD
  EXPECT_EQ(play(Side::Responses, {{"HTTP/1.1 200 OK\r\n\r\n"}, {"xyz"}}, false, true), "B200 H U");  // of CONNECT
}

// However the bytes are cut into calls, the messages are the same.
TEST(Http1, AnyCutTellsTheSame) {
  const std::string text = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nX: y\r\n\r\n";
  for (std::size_t cut = 12; cut < text.size(); ++cut) {
    SCOPED_TRACE(cut);
    // A message that begins in the middle of a call and is cut within its method is not found again: by design.
    const std::size_t second = text.find("GET");
    if (cut > second && cut < second + 6) continue;
    EXPECT_EQ(play(Side::Requests, {{text.substr(0, cut)}, {text.substr(cut)}}), "B:POST:/a H E B:GET:/b H E");
  }
}

// Lines longer than the limit cost no memory and no message.
TEST(Http1, LongLines) {
  std::vector<Feed> feeds = {{"GET /a HTTP/1.1\r\n"}};
  for (int i = 0; i < 100; ++i) feeds.push_back({std::string(500, 'x')});
  feeds.push_back({"\r\n\r\n"});
  EXPECT_EQ(play(Side::Requests, feeds), "B:GET:/a H E");
}

TEST(Http1, Traceparent) {
  const struct { const char* text; bool good; } cases[] = {
      {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true},
      {" 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00 ", true},
      {"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-future", true},
      {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false},
      {"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
      {"00-00000000000000000000000000000000-b7ad6b7169203331-01", false},
      {"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false},
      {"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false},
      {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01", false},
      {"", false},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    TraceContext trace;
    EXPECT_EQ(parse_traceparent(c.text, trace), c.good);
    EXPECT_EQ(trace.span_id, c.good ? 0xb7ad6b7169203331ULL : 0);
  }
}

TEST(Http1, PathTemplates) {
  const struct { const char* path; const char* expected; } cases[] = {
      {"/", "/"},
      {"/items", "/items"},
      {"/items/17", "/items/{id}"},
      {"/items/17/", "/items/{id}/"},
      {"/v1/users/me", "/v1/users/me"},
      {"/o/123e4567-e89b-12d3-a456-426614174000/pay", "/o/{id}/pay"},
      {"/commit/deadbeef01", "/commit/{id}"},
      {"/cart/u17", "/cart/{id}"},
      {"/cart/u7/item_3", "/cart/{id}/{id}"},
      {"/user42", "/{id}"},
      {"/v1/oauth2/mp3", "/v1/oauth2/mp3"},
      {"/v12/x", "/v12/x"},
      {"/facade/added", "/facade/added"},
      {"/order-20481", "/{id}"},
      {"/2026-11-23/report", "/{id}/report"},
      {"/a@b.de", "/{id}"},
      {"/caf%C3%A9", "/{id}"},
      {"/x\x01y", "/{id}"},
      {"/verylongtokenverylongtokenverylongtokenverylong", "/{id}"},
      {"/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/*"},
      {"*", "*"},
      {"", "/*"},
      {"nonsense", "/*"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.path);
    EXPECT_EQ(path_template(c.path), c.expected);
  }
}

}  // namespace culprit::track
