#!/usr/bin/env python3
"""What the Go runtime and its net/http print for the failure modes of Go programs."""
import os
import socket

from stage import Stage

PROGRAMS = {
    "maps": "import \"sync\"\nfunc main() {\n m := map[int]int{}\n var wait sync.WaitGroup\n for g := 0; g < 8; g++ {\n  wait.Add(1)\n  go func() { for i := 0; i < 1000000; i++ { m[i] = i }; wait.Done() }()\n }\n wait.Wait()\n}",
    "nil": "type order struct{ total int }\nfunc main() {\n var o *order\n println(o.total)\n}",
    "index": "import \"os\"\nfunc main() { s := []int{1, 2, 3}; println(s[len(os.Args)+2]) }",
    "asleep": "func main() { c := make(chan int); <-c }",
    "accept": "import (\"net\"; \"net/http\"; \"os\")\nfunc main() {\n l, e := net.Listen(\"tcp\", \"127.0.0.1:\"+os.Args[1])\n if e != nil { panic(e) }\n http.Serve(l, nil)\n}",
    "deadline": "import (\"context\"; \"fmt\"; \"net/http\"; \"os\"; \"time\")\nfunc main() {\n c := http.Client{Timeout: 300 * time.Millisecond}\n _, e := c.Get(\"http://127.0.0.1:\" + os.Args[1] + \"/charge\")\n fmt.Println(e)\n x, stop := context.WithTimeout(context.Background(), 10*time.Millisecond)\n defer stop()\n <-x.Done()\n fmt.Println(\"query items:\", x.Err())\n}",
}

with Stage("go-runtime", "golang-1.23-go") as stage:
    environment = os.environ | {"GOCACHE": str(stage.make("cache")), "GOFLAGS": "-mod=mod", "GOPATH": str(stage.make("go")), "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    for name, text in PROGRAMS.items():
        stage.write(f"{name}/main.go", f"package main\n{text}\n")
        said = stage.run("/usr/lib/go-1.23/bin/go", "build", "-o", stage.folder / f"{name}.bin", f"{name}/main.go", env=environment, seconds=240)
        if said:
            print(said)

    def run(name, *words):
        return stage.start(f"{name}.log", stage.folder / f"{name}.bin", *words)

    for name in ("maps", "nil", "index", "asleep"):
        run(name)
    stage.log_line("concurrent-map", "log-fatal", "maps.log", "concurrent map")
    stage.log_line("nil-deref", "log-panic", "nil.log", "nil pointer dereference")
    stage.log_line("nil-deref", "log-index", "index.log", "panic: runtime error:")
    stage.log_line("all-asleep", "log-fatal", "asleep.log", "all goroutines are asleep")
    port = stage.port()
    stage.start("accept.log", stage.folder / "accept.bin", port, limits=("--nofile=12:12",))
    stage.listens(port)
    held = [socket.create_connection(("127.0.0.1", port), 2) for _ in range(12)]
    stage.log_line("fd-exhausted", "log-accept", "accept.log", "Accept error")
    silent = socket.create_server(("127.0.0.1", 0))
    run("deadline", silent.getsockname()[1])
    stage.log_line("ctx-deadline", "log-client", "deadline.log", "Client.Timeout exceeded")
    stage.log_line("ctx-deadline", "log-deadline", "deadline.log", "query items:")
    raise SystemExit(1 if stage.failed else 0)
