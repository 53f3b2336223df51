// An HTTP server that tells a span of each request with OpenTelemetry's SDK and writes lines of its own, without a trace: one to a
// file, one to its output. Each request sleeps, waits for its disk and uses its CPU:
// node serve.mjs BASE_URL LOG_FILE. Says its port; ends with its input.
import fs from "node:fs";
import http from "node:http";
import { ROOT_CONTEXT, SpanKind, trace } from "@opentelemetry/api";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";

const [base, file] = process.argv.slice(2);
const exporter = new OTLPTraceExporter({ url: `${base}/v1/traces` });
const tracing = new BasicTracerProvider({
  resource: resourceFromAttributes({ "service.name": "orders" }),
  spanProcessors: [new BatchSpanProcessor(exporter, { scheduledDelayMillis: 2000 })],
});
const lines = fs.openSync(file, "a");  // to append: the kernel's probes see these lines, too
function work(url) {
  fs.writeSync(lines, JSON.stringify({ time: new Date().toISOString(), pid: process.pid, msg: `looked up ${url}` }) + "\n");
  fs.fsyncSync(lines);
  console.log(`answers ${url}`);
  for (const until = performance.now() + 5; performance.now() < until;);
}
const tracer = tracing.getTracer("test");
const server = http.createServer((request, response) => {
  const given = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(request.headers.traceparent ?? "");
  const parent = given ? trace.setSpanContext(ROOT_CONTEXT, { traceId: given[1], spanId: given[2], traceFlags: 1, isRemote: true }) : ROOT_CONTEXT;
  const attributes = { "http.request.method": "GET", "http.route": "/orders/:id", "network.peer.port": request.socket.remotePort };
  const span = tracer.startSpan("GET /orders/:id", { kind: SpanKind.SERVER, attributes }, parent);
  setTimeout(() => {
    work(request.url);
    setTimeout(() => {
      span.setAttribute("http.response.status_code", 200);
      span.end();
      response.end("ok");
    }, 10);
  }, 10);
});
server.listen(0, "127.0.0.1", () => console.log(`${server.address().port} ${process.pid}`));
process.stdin.on("end", async () => {
  await tracing.shutdown();
  process.exit(0);
}).resume();
