// Formats of log lines: how a line of a file becomes an event.
//
//   plain, postgresql, mysql, redis   the line as it is; time and severity as its header says them
//   json, logfmt                      fields by their usual names (time, level, msg, trace_id, ...)
//   nginx, apache, envoy, haproxy     access logs: "combined" of the first two, Envoy's and HAProxy's (option httplog) defaults
//   nginx:FORMAT                      a log_format of nginx: $remote_addr ... $request_time
//   apache:FORMAT                     a LogFormat of Apache: %h %t "%r" %>s %D
//   envoy:FORMAT                      a format string of Envoy: [%START_TIME%] ... %RESPONSE_FLAGS%
//   auto                              json, logfmt or one of the access logs if a line is of that form, else plain
//
// An access line's event says method, route, status, duration, flags and upstream in OpenTelemetry's attributes; values of its
// query are cut out. Its template is "METHOD route status flags", so that a new kind of failure is a new template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/ingest/record.h"

namespace culprit::ingest {

class LineFormat {
 public:
  // Errors: Invalid, naming what is known, or the place in the format string.
  static Result<LineFormat> create(std::string_view spec);

  // Makes an event (kind Log, without entity unless the line says one) of a line without its newline. False if the line
  // is not of this form: the event is then that of a plain line.
  bool read(std::string_view line, const Context& context, stream::Event& event, Decoded& out) const;

  const std::string& name() const { return name_; }
  // True for a line that continues the one before it: stack traces and the like.
  bool continues(std::string_view line) const;

 private:
  enum class Kind : std::uint8_t { Plain, Json, Logfmt, Access, Auto };
  enum class Field : std::uint8_t { Skip, Time, UnixTime, Request, Method, Path, Status, Seconds, Millis, Micros, Flags, Upstream, Cluster, Bytes, Client, Trace, RequestId, Host, Agent };
  struct Token {
    std::string literal;  // before the field
    Field field = Field::Skip;
    bool last = false;    // no field: only the literal
  };

  bool read_access(std::string_view line, const Context& context, stream::Event& event, Decoded& out) const;
  static bool read_json(std::string_view line, const Context& context, stream::Event& event, Decoded& out);
  static bool read_logfmt(std::string_view line, const Context& context, stream::Event& event, Decoded& out);
  static void read_plain(std::string_view line, const Context& context, stream::Event& event, Decoded& out);
  Result<void> compile_nginx(std::string_view format);
  Result<void> compile_apache(std::string_view format);
  Result<void> compile_envoy(std::string_view format);
  void add(std::string literal, Field field);

  std::string name_;
  Kind kind_ = Kind::Plain;
  std::string syslog_tag_;      // what may stand before the line: "haproxy["
  std::vector<Token> tokens_;
  bool strict_ = false;         // all of it must be there, not only what stands before the status
  std::vector<LineFormat> tried_;  // of Auto
};

}  // namespace culprit::ingest
