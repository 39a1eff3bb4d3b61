package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// ticksPerSecond is the unit of /proc/<pid>/stat: fixed at 100 for all that user space can see.
const ticksPerSecond = 100

// measurement is what one phase has taken. Times are in milliseconds.
type measurement struct {
	Operations int     `json:"operations"`
	Seconds    float64 `json:"seconds,omitempty"`
	PerSecond  float64 `json:"per_second,omitempty"`
	P50        float64 `json:"p50_ms"`
	P99        float64 `json:"p99_ms,omitempty"`
	P999       float64 `json:"p999_ms,omitempty"`
	Max        float64 `json:"max_ms"`
	ServerCPU  float64 `json:"server_cpu_seconds"`
	ClientCPU  float64 `json:"client_cpu_seconds"`
	*events
	*ages
	*weather
}

// events is what the watchers of a phase have seen.
type events struct {
	Watchers int     `json:"watchers"`
	Events   int     `json:"events"`
	P50      float64 `json:"event_p50_ms"`
	P99      float64 `json:"event_p99_ms"`
	Max      float64 `json:"event_max_ms"`
	Lists    int     `json:"lists,omitempty"` // that ended while the watchers watched
}

// measure runs a phase and adds the CPU time that server and client have spent on it.
func (l *load) measure(ctx context.Context, phase func(*load, context.Context) (*measurement, error)) (*measurement, error) {
	serverBefore, err := l.serverCPU()
	if err != nil {
		return nil, err
	}
	clientBefore := ownCPU()
	measured, err := phase(l, ctx)
	if err != nil {
		return nil, err
	}
	serverAfter, err := l.serverCPU()
	if err != nil {
		return nil, err
	}
	measured.ServerCPU = (serverAfter - serverBefore).Seconds()
	measured.ClientCPU = (ownCPU() - clientBefore).Seconds()
	return measured, nil
}

// rate sums up single requests.
func rate(latencies []time.Duration, elapsed time.Duration) *measurement {
	slices.Sort(latencies)
	return &measurement{
		Operations: len(latencies),
		Seconds:    elapsed.Seconds(),
		PerSecond:  float64(len(latencies)) / elapsed.Seconds(),
		P50:        milliseconds(quantile(latencies, 0.5)),
		P99:        milliseconds(quantile(latencies, 0.99)),
		P999:       milliseconds(quantile(latencies, 0.999)),
		Max:        milliseconds(latencies[len(latencies)-1]),
	}
}

// watched adds the latencies of all events of all watchers.
func (m *measurement) watched(watchers int, latencies []time.Duration) {
	slices.Sort(latencies)
	m.events = &events{
		Watchers: watchers,
		Events:   len(latencies),
		P50:      milliseconds(quantile(latencies, 0.5)),
		P99:      milliseconds(quantile(latencies, 0.99)),
		Max:      milliseconds(latencies[len(latencies)-1]),
	}
}

// quantile is the nearest rank in a sorted, non-empty list.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// ownCPU is the user and system time of this process.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // cannot fail with these arguments
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// serverCPU is the user and system time of --server-pid, 0 without one.
func (l *load) serverCPU() (time.Duration, error) {
	if l.opts.serverPID == 0 {
		return 0, nil
	}
	path := fmt.Sprintf("/proc/%d/stat", l.opts.serverPID)
	stat, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	// The second field is a program's name in brackets and may hold anything; utime and stime are
	// the 14th and 15th field, so the 12th and 13th after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int64
	for _, field := range fields[11:13] {
		number, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		ticks += number
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}
