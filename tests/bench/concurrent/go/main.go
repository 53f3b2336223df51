// The same workloads for Go's channels and maps, as raw lines for run.
package main

import (
	"fmt"
	"math/rand"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

type item struct {
	number uint64
	rest   [7]uint64
}

// Of rows with more goroutines than one, cores is what the process had of one or more cores; else 0.
func report(workload string, candidate string, value float64, cores float64) {
	fmt.Printf("%s;%s;%.4f;", workload, candidate, value)
	if cores != 0 {
		fmt.Printf("%.2f", cores)
	}
	fmt.Println()
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		panic("no resource usage")
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func throughput(workload string, producers, items int) {
	c := make(chan item, 1024)
	each := items / producers
	var senders sync.WaitGroup
	for p := 0; p < producers; p++ {
		senders.Add(1)
		go func() {
			for i := 0; i < each; i++ {
				c <- item{number: uint64(i)}
			}
			senders.Done()
		}()
	}
	start, cpu := time.Now(), cpuSeconds()
	var sum uint64
	for i := 0; i < each*producers; i++ {
		one := <-c
		sum += one.number
	}
	seconds := time.Since(start).Seconds()
	cores := (cpuSeconds() - cpu) / seconds
	senders.Wait()
	if sum != uint64(producers)*uint64(each)*uint64(each-1)/2 {
		panic("lost items")
	}
	report(workload, "go", float64(each*producers)/seconds/1e6, cores)
}

type key [5]uint64
type aggregate struct {
	count, sum, min, max, last uint64
	bins                       [14]uint32
}

func (a *aggregate) add(value, time uint64) {
	a.count++
	a.sum += value
	if value < a.min {
		a.min = value
	}
	if value > a.max {
		a.max = value
	}
	a.last = time
	a.bins[value%14]++
}

func makeKey(i uint64) key { return key{1<<32 + i&511, i >> 2 << 32, i * 0x9e3779b97f4a7c15, i, 6 << 48} }

func maps(name string, series uint64, ops int) {
	m := make(map[key]*aggregate)
	var s sync.Map
	var mutex sync.Mutex
	for i := uint64(0); i < series; i++ {
		m[makeKey(i)] = &aggregate{}
		s.Store(makeKey(i), &aggregate{})
	}
	zipf := rand.NewZipf(rand.New(rand.NewSource(1)), 1.01, 1, series-1)
	keys := make([]key, ops)
	for i := range keys {
		keys[i] = makeKey(zipf.Uint64() * 0x9e3779b97f4a7c15 % series)
	}
	for _, reads := range []int{5, 95} {
		workload := fmt.Sprintf("M9 %d%% reads %s", reads, name)
		start := time.Now()
		var sum uint64
		for i, k := range keys {
			mutex.Lock()
			a := m[k]
			if i%100 < reads {
				sum += a.count
			} else {
				a.add(uint64(i), 1)
			}
			mutex.Unlock()
		}
		report(workload, "go-map-mutex", time.Since(start).Seconds()/float64(ops)*1e9, 0)
		start = time.Now()
		for i, k := range keys {
			v, _ := s.Load(k)
			a := v.(*aggregate)
			mutex.Lock()
			if i%100 < reads {
				sum += a.count
			} else {
				a.add(uint64(i), 1)
			}
			mutex.Unlock()
		}
		report(workload, "go-sync.Map", time.Since(start).Seconds()/float64(ops)*1e9, 0)
		runtime.KeepAlive(sum)
	}
}

func main() {
	items, _ := strconv.Atoi(os.Args[2])
	any := func(id string) bool { return len(os.Args) == 3 || slices.Contains(os.Args[3:], id) }
	if any("M9") {
		maps("100k", 100_000, 500_000)
		maps("1M", 1_000_000, 500_000)
	}
	if any("C1") {
		throughput("C1 one producer, batches of 64, M/s", 1, items/4)
	}
	if any("C2") {
		throughput("C2 two producers, batches of 64, M/s", 2, items/4)
	}
	if any("C3") {
		throughput("C3 blocking, woken a batch of 16, M/s", 1, items/4)
	}
	if any("C4") {
		var stop atomic.Bool
		go func() {
			for !stop.Load() {
			}
		}()
		runtime.GOMAXPROCS(3)
		throughput("C4 beside a third busy thread, M/s", 1, items/4)
		stop.Store(true)
	}
}
