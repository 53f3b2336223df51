// Sends spans, log records and metrics with OpenTelemetry's SDK: node send.mjs BASE_URL proto|http|grpc COUNT
import { SpanKind, SpanStatusCode, context, trace } from "@opentelemetry/api";
import { SeverityNumber } from "@opentelemetry/api-logs";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-node";

const [base, form, countText] = process.argv.slice(2);
const count = Number(countText);
const { OTLPTraceExporter } = await import(`@opentelemetry/exporter-trace-otlp-${form}`);
const { OTLPMetricExporter } = await import(`@opentelemetry/exporter-metrics-otlp-${form}`);
const { OTLPLogExporter } = await import(`@opentelemetry/exporter-logs-otlp-${form}`);
const resource = resourceFromAttributes({ "service.name": `js-${form}` });
const options = (signal) => ({ url: form === "grpc" ? base : `${base}/v1/${signal}`, compression: form === "http" ? "none" : "gzip" });

const tracing = new BasicTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter(options("traces")), { maxQueueSize: 100000 })] });
const logging = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter: new OTLPLogExporter(options("logs")), maxQueueSize: 100000 })] });
const metering = new MeterProvider({ resource, readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(options("metrics")), exportIntervalMillis: 3600000 })] });
const tracer = tracing.getTracer("test"), logger = logging.getLogger("test"), meter = metering.getMeter("test");
let id = "";
for (let i = 0; i < count; ++i) {
  const server = tracer.startSpan("GET /orders/{id}", { kind: SpanKind.SERVER, attributes: { "http.request.method": "GET" } });
  const within = trace.setSpan(context.active(), server);
  const client = tracer.startSpan("SELECT orders", { kind: SpanKind.CLIENT, attributes: { "db.system.name": "postgresql" } }, within);
  client.end();
  logger.emit({ severityNumber: SeverityNumber.ERROR, body: `order ${i} failed`, context: within });
  if (i === 0) server.setStatus({ code: SpanStatusCode.ERROR, message: "pool exhausted" });
  server.end();
  id = server.spanContext().traceId;
}
meter.createCounter("orders.placed").add(count);
meter.createGauge("pool.size").record(5);
meter.createHistogram("order.value").record(17);
await tracing.forceFlush();
await logging.forceFlush();
await metering.forceFlush();
await Promise.all([tracing.shutdown(), logging.shutdown(), metering.shutdown()]);
console.log(id);
