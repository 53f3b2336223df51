#!/usr/bin/python3
"""shop: the small web shop of the lab. Items and orders live in PostgreSQL, carts in Redis.

Settings come from the environment: SHOP_PORT, SHOP_DSN, SHOP_REDIS_PORT, SHOP_FLAGS (a JSON file of feature flags).
"""
import contextlib, http.server, json, os, queue, re, sys, threading, time

import psycopg2
import redis

VERSION = "1.0"
POOL_SIZE, POOL_WAIT_S, CONNECTION_AGE_S = 10, 2.0, 2.5  # connections are renewed all the time, as behind a pooler
CATALOG = [{"id": n, "tags": {n % 7, n % 11, n % 13}} for n in range(500)]
RELATED = {n: [(n + 1) % 500, (n + 7) % 500] for n in range(500)}
pool, carts = queue.LifoQueue(), None
pool_slots = threading.Semaphore(POOL_SIZE)
flags, pages, exports = {}, {}, []  # feature flags, and what they fill


def watch_flags():
    seen = None
    while True:
        if (changed := os.stat(os.environ["SHOP_FLAGS"]).st_mtime_ns) != seen:
            flags.update({"page_cache": False, "export": False} | json.load(open(os.environ["SHOP_FLAGS"])))
            seen = changed
        time.sleep(0.5)


@contextlib.contextmanager
def database():
    if not pool_slots.acquire(timeout=POOL_WAIT_S):
        raise TimeoutError(f"no database connection became free within {POOL_WAIT_S} s")
    connection = None
    try:
        with contextlib.suppress(queue.Empty):
            connection, born = pool.get_nowait()
            if time.monotonic() - born > CONNECTION_AGE_S:
                connection.close()
                connection = None
        if connection is None:
            connection, born = psycopg2.connect(os.environ["SHOP_DSN"]), time.monotonic()
        with connection, connection.cursor() as cursor:
            yield cursor
        pool.put((connection, born))
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    finally:
        pool_slots.release()


def related(item):
    return RELATED[item % 500]


def get_item(item):
    if flags.get("page_cache"):  # keeps every rendered page, and forgets none
        pages[time.monotonic_ns()] = os.urandom(1 << 20) * 2
    if flags.get("export"):  # writes each view to a file that is never closed
        exports.append(os.open("/dev/null", os.O_WRONLY))
    with database() as cursor:
        cursor.execute("SELECT id, name, price, stock FROM items WHERE id = %s", (item,))
        row = cursor.fetchone()
    if row is None:
        return 404, {"error": "no such item"}
    return 200, {"id": row[0], "name": row[1], "price": float(row[2]), "stock": row[3], "related": related(item)}


def post_order(body):
    order = json.loads(body)
    with database() as cursor:
        cursor.execute("INSERT INTO orders (item, customer, note) VALUES (%s, %s, %s) RETURNING id",
                       (order["item"], order["customer"], order.get("note", "")))
        number = cursor.fetchone()[0]
    return 201, {"order": number}


def get_cart(user):
    carts.hincrby(f"cart:{user}", "views", 1)
    return 200, {"user": user, "cart": carts.hgetall(f"cart:{user}")}


ROUTES = [("GET", r"/items/(\d+)", lambda match, body: get_item(int(match[1]))),
          ("POST", r"/orders", lambda match, body: post_order(body)),
          ("GET", r"/cart/(\w+)", lambda match, body: get_cart(match[1])),
          ("GET", r"/healthz", lambda match, body: (200, {"version": VERSION}))]


def log(stream, level, text):
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    print(f"{stamp} {level} {text}", file=stream, flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one write per answer

    def answer(self):
        begin = time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, document = 404, {"error": "no such path"}
        try:
            for method, pattern, handle in ROUTES:
                if method == self.command and (match := re.fullmatch(pattern, self.path)):
                    status, document = handle(match, body)
        except (ValueError, KeyError) as error:
            status, document = 400, {"error": str(error)}
        except Exception as error:  # a dependency failed; the caller learns that, the log learns why
            status, document = 503, {"error": type(error).__name__}
            log(sys.stderr, "ERROR", f"{self.command} {self.path}: {type(error).__name__}: " + " ".join(str(error).split()))
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        log(sys.stdout, "INFO", f"{self.command} {self.path} {status} {(time.monotonic() - begin) * 1000:.1f}ms")

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def get_request(self):
        try:
            return super().get_request()
        except OSError as error:
            log(sys.stderr, "ERROR", f"accept: {error}")
            time.sleep(0.05)
            raise

    def handle_error(self, request, client_address):
        log(sys.stderr, "ERROR", f"connection of {client_address[0]}: {sys.exc_info()[1]}")


if __name__ == "__main__":
    carts = redis.Redis(port=int(os.environ["SHOP_REDIS_PORT"]), socket_timeout=2, socket_connect_timeout=1,
                        decode_responses=True)
    threading.Thread(target=watch_flags, daemon=True).start()
    log(sys.stdout, "INFO", f"shop {VERSION} starts")
    Server(("127.0.0.1", int(os.environ["SHOP_PORT"])), Handler).serve_forever()
