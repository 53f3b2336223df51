"""The system under test: nginx -> shop (app/shop.py) -> PostgreSQL and Redis, each real, from Debian's packages, with
its own port, data, log and cgroup below one temporary folder. `System.env` is what faults see (see README.md)."""
import os
import pathlib
import pwd
import shutil
import signal
import threading
import time
import urllib.request

import psycopg2

import host

HERE = pathlib.Path(__file__).resolve().parent
PYTHON = "/usr/bin/python3"
SERVICES = ("postgres", "redis", "shop", "nginx")  # in order of start
SHOP_MEMORY_BYTES = 192 << 20
SHOP_FILES_MAX = 160
ITEMS = 1000

POSTGRES_CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 30
shared_buffers = 16MB
fsync = on
min_wal_size = 32MB
max_wal_size = 64MB
log_destination = stderr
logging_collector = off
log_line_prefix = '%m [%p] %q%u@%d '
log_timezone = 'UTC'
log_lock_waits = on
deadlock_timeout = 1s
jit = off
"""

NGINX_CONF = """
daemon off;
user {user};
worker_processes 1;
pid {root}/run/nginx.master.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
  access_log {logs}/nginx.access.log;
  client_body_temp_path {root}/nginx/body;
  proxy_temp_path {root}/nginx/proxy;
  fastcgi_temp_path {root}/nginx/fastcgi;
  uwsgi_temp_path {root}/nginx/uwsgi;
  scgi_temp_path {root}/nginx/scgi;
  upstream shop {{ server 127.0.0.1:{shop_port}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    location /static/ {{ root {root}/nginx; }}
    location / {{
      proxy_pass http://shop;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout 2s;
      proxy_read_timeout 10s;
    }}
  }}
}}
"""

SCHEMA = f"""
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, price numeric(8, 2) NOT NULL, stock int NOT NULL);
CREATE TABLE orders (id bigserial PRIMARY KEY, item int NOT NULL REFERENCES items, customer text NOT NULL, note text,
                     placed timestamptz NOT NULL DEFAULT now());
INSERT INTO items SELECT n, 'item ' || n, n % 90 + 0.99, 100 FROM generate_series(1, {ITEMS}) n;
"""


def user_of(*names):
    """The first of these users that exists; `nobody` always does."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in names if name in known), "nobody")


def postgres_bin():
    """The newest PostgreSQL of Debian's packages."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda file: int(file.parts[4]))
    if not found:
        raise RuntimeError("no PostgreSQL below /usr/lib/postgresql: run `sudo ./dev setup`")
    return found[-1].parent


class System:
    def __init__(self, note=lambda text: None):
        self.note = note
        self.host = host.Host()
        self.root = self.host.root
        self.run, self.logs = self.root / "run", self.root / "logs"
        self.processes, self._lock, self._ending = {}, threading.Lock(), threading.Event()
        self.restarts = dict.fromkeys(SERVICES, 0)
        self.ports = {name: self.host.port() for name in SERVICES}
        self.pg_bin = postgres_bin()
        self.pg_user = user_of("postgres")
        self._keeper = threading.Thread(target=self._keep_running, daemon=True)

    # ---- what each service needs before its first start

    def _prepare(self):
        for folder in (self.run, self.logs, self.root / "nginx/static", self.root / "releases/v1"):
            folder.mkdir(parents=True)
        self.shop_logs = self.host.volume("shop-log", 48, "nobody")
        self.pg_data = self.host.volume("pg", 256, self.pg_user) / "data"
        shutil.copy(HERE / "app/shop.py", self.root / "releases/v1/shop.py")
        (self.root / "current").symlink_to("releases/v1")
        (self.root / "nginx/static/small.txt").write_text("x" * 1024)
        (self.root / "flags.json").write_text("{}")
        (self.root / "nginx.conf").write_text(NGINX_CONF.format(
            user=f"{user_of('www-data')} {host.user_group(user_of('www-data'))}", root=self.root, logs=self.logs,
            port=self.ports["nginx"], shop_port=self.ports["shop"]))
        init = self.host.start("postgres", [self.pg_bin / "initdb", "-D", self.pg_data, "-U", "postgres", "--auth=trust",
                                            "--no-sync", "--encoding=UTF8", "--locale=C"],
                               user=self.pg_user, log=self.logs / "initdb.log")
        if init.wait():
            raise RuntimeError(f"initdb failed: {(self.logs / 'initdb.log').read_text().strip()[-500:]}")
        with open(self.pg_data / "postgresql.conf", "a") as file:
            file.write(POSTGRES_CONF.format(port=self.ports["postgres"]))
        self.host.limit_memory("shop", SHOP_MEMORY_BYTES)

    def _command(self, name):
        """The command line of a service, and how `Host.start` runs it."""
        if name == "postgres":
            return [self.pg_bin / "postgres", "-D", self.pg_data], {"user": self.pg_user, "log": self.logs / "postgres.log"}
        if name == "redis":
            return (["redis-server", "--bind", "127.0.0.1", "--port", self.ports["redis"], "--save", "", "--appendonly",
                     "no", "--dir", self.run], {"user": user_of("redis"), "log": self.logs / "redis.log"})
        if name == "nginx":
            return (["nginx", "-p", self.root, "-c", self.root / "nginx.conf", "-e", "stderr"],
                    {"log": self.logs / "nginx.log"})
        release = (self.root / "current").resolve()  # so that the command line names the release, as after a deploy
        return ([PYTHON, release / "shop.py"],
                {"user": "nobody", "log": self.shop_logs / "shop.log", "files_max": SHOP_FILES_MAX,
                 "env": {"SHOP_PORT": str(self.ports["shop"]), "SHOP_REDIS_PORT": str(self.ports["redis"]),
                         "SHOP_FLAGS": str(self.root / "flags.json"), "SHOP_DSN": self.dsn}})

    @property
    def dsn(self):
        return (f"host=127.0.0.1 port={self.ports['postgres']} user=shop dbname=shop connect_timeout=3 "
                "application_name=shop options='-c statement_timeout=5000'")

    # ---- life

    def start(self):
        self._prepare()
        for name in SERVICES:
            self._spawn(name)
            {"postgres": self._wait_postgres, "shop": lambda: self._wait_http("shop"), "redis": self._wait_redis,
             "nginx": lambda: self._wait_http("nginx")}[name]()
            self.note(f"{name}: pid {self.processes[name].pid}, port {self.ports[name]}")
        for text in self.host.notes:
            self.note(f"note: {text}")
        self._keeper.start()

    def _spawn(self, name):
        command, options = self._command(name)
        process = self.host.start(name, command, **options)
        self.processes[name] = process
        (self.run / f"{name}.pid").write_text(f"{process.pid}\n")

    def _keep_running(self):
        """Restarts what ends, as a unit with Restart=always would, unless run/<service>.down exists."""
        ended = {}
        while not self._ending.wait(0.2):
            with self._lock:
                for name, process in self.processes.items():
                    if process.poll() is None:
                        ended.pop(name, None)
                        continue
                    since = ended.setdefault(name, time.monotonic())
                    if not (self.run / f"{name}.down").exists() and time.monotonic() - since > 0.5:
                        self._spawn(name)
                        self.restarts[name] += 1
                        with open(self.logs / "supervisor.log", "a", encoding="ascii") as log:
                            log.write(f"{time.time():.3f} {name}: pid {process.pid} ended with {process.returncode}, "
                                      f"pid {self.processes[name].pid} started\n")

    def _wait(self, what, attempt, seconds=20):
        deadline = time.monotonic() + seconds
        while True:
            try:
                return attempt()
            except (OSError, psycopg2.Error) as error:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{what} does not answer after {seconds} s: {error}; logs in {self.logs}") from None
                time.sleep(0.1)

    def _wait_postgres(self):
        def connect(database):
            connection = psycopg2.connect(host="127.0.0.1", port=self.ports["postgres"], user="postgres", dbname=database)
            connection.autocommit = True
            return connection
        admin = self._wait("postgres", lambda: connect("postgres"))
        admin.cursor().execute("CREATE ROLE shop LOGIN")
        admin.cursor().execute("CREATE DATABASE shop OWNER shop")
        admin.close()
        owner = psycopg2.connect(self.dsn)
        with owner, owner.cursor() as cursor:
            cursor.execute(SCHEMA)
        owner.close()

    def _wait_redis(self):
        import redis
        client = redis.Redis(port=self.ports["redis"])

        def ping():
            try:
                return client.ping()
            except redis.RedisError as error:
                raise OSError(str(error)) from None
        self._wait("redis", ping)
        client.close()

    def _wait_http(self, name):
        url = f"http://127.0.0.1:{self.ports[name]}/healthz"
        self._wait(name, lambda: urllib.request.urlopen(url, timeout=2).read())

    def start_tool(self, name, command, log):
        """Starts a program that is not part of the system (load, culprit) in a cgroup beside the services."""
        return self.host.start(name, command, log=log, tools=True)

    @property
    def env(self):
        """What `inject` and `heal` of a fault get."""
        values = {"ID": self.host.id, "ROOT": self.root, "RUN": self.run, "LOGS": self.logs, "PYTHON": PYTHON,
                  "FLAGS": self.root / "flags.json", "CURRENT": self.root / "current", "PGDATA": self.pg_data,
                  "PGVOLUME": self.pg_data.parent, "SHOP_LOGS": self.shop_logs,
                  "PSQL": f"psql -X -q -h 127.0.0.1 -p {self.ports['postgres']} -U shop shop",
                  "DSN": self.dsn, "URL": f"http://127.0.0.1:{self.ports['nginx']}",
                  "CGROUP": self.host.cgroup("shop")["unified"].parent,
                  "CGROUP_MEMORY": self.host.cgroup("shop")["memory"].parent,
                  "CGROUP_BLKIO": self.host.cgroup("shop")["blkio"].parent,
                  "PG_DEVICES": f"{self._device(self.root)} {self._device(self.pg_data)}"}
        values |= {f"{name.upper()}_PORT": port for name, port in self.ports.items()}
        found = {f"LAB_{name}": str(value) for name, value in values.items()}
        return found | {"PATH": f"{HERE / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}"}

    @staticmethod
    def _device(path):
        number = os.stat(path).st_dev
        return f"{os.major(number)}:{os.minor(number)}"

    def stop(self):
        self._ending.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with self._lock:
            for process in self.processes.values():
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGCONT)
        self.host.close()
