package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/redisstore"
	"github.com/brillconsulting/handoff/steps"
)

var target = handoff.HTTPTarget{URL: "http://worker.internal/tasks", DangerouslySendUnsigned: true} // an example

// Import is the task: one for all rows.
type Import struct {
	Dir   string        `json:"dir"`
	Rows  int           `json:"rows"`
	Part  int           `json:"part"`  // rows between two saved positions
	Pause time.Duration `json:"pause"` // how long the database takes for a part
}

func (Import) Kind() string { return "import" }
func (Import) Policy() handoff.Policy {
	return handoff.Policy{Queue: "imports", Retry: handoff.Retry{MinBackoff: 100 * time.Millisecond, MaxBackoff: time.Second}}
}

// position is behind the last row that was imported.
type position struct {
	Row    int   `json:"row"`
	Offset int64 `json:"offset"` // in bytes, in the file
}

// handle imports the file. Each row has its place in the result, so that writing
// it again changes nothing.
func handle(ctx context.Context, p Import) error {
	return steps.Each(ctx, "rows", func(ctx context.Context, c *steps.Cursor[position]) error {
		in, err := os.Open(filepath.Join(p.Dir, "in.csv"))
		if err != nil {
			return err
		}
		defer in.Close()
		at := c.At()
		if _, err := in.Seek(at.Offset, 0); err != nil {
			return err
		}
		lines := bufio.NewReader(in)
		for at.Row < p.Rows {
			next, err := p.write(lines, at)
			if err != nil {
				return err
			}
			if err := p.pause(ctx); err != nil {
				return err
			}
			if err := c.Save(ctx, next); err != nil {
				return err
			}
			at = next
		}
		return nil
	})
}

func (p Import) pause(ctx context.Context) error {
	timer := time.NewTimer(p.Pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// write imports the part that begins at a position, and returns its end.
func (p Import) write(lines *bufio.Reader, at position) (position, error) {
	next := at
	var sums []byte
	for next.Row < min(at.Row+p.Part, p.Rows) {
		line, err := lines.ReadString('\n')
		if err != nil {
			return at, err
		}
		sums = binary.BigEndian.AppendUint64(sums, sum(line))
		next.Row++
		next.Offset += int64(len(line))
	}
	out, err := os.OpenFile(filepath.Join(p.Dir, "out"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return at, err
	}
	_, err = out.WriteAt(sums, int64(8*at.Row))
	if err := errors.Join(err, out.Close()); err != nil {
		return at, err
	}
	log, err := os.OpenFile(filepath.Join(p.Dir, "parts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return at, err
	}
	_, err = fmt.Fprintf(log, "%d %d\n", at.Row, next.Row)
	return next, errors.Join(err, log.Close())
}

// part is a run of rows that was written.
type part struct{ From, To int }

// parts returns every part that was written, also those that were written again.
func (p Import) parts() ([]part, error) {
	text, err := os.ReadFile(filepath.Join(p.Dir, "parts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var parts []part
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			break // the worker is writing it, or was killed then
		}
		var one part
		if _, err := fmt.Sscanf(line, "%d %d\n", &one.From, &one.To); err != nil {
			return nil, err
		}
		parts = append(parts, one)
	}
	return parts, nil
}

// compare returns the number of rows that the result lacks or has wrong.
func (p Import) compare() (wrong int, err error) {
	out, err := os.ReadFile(filepath.Join(p.Dir, "out"))
	if err != nil {
		return 0, err
	}
	for i := range p.Rows {
		if len(out) < 8*i+8 || binary.BigEndian.Uint64(out[8*i:]) != sum(row(i)) {
			wrong++
		}
	}
	return wrong, nil
}

func row(i int) string { return fmt.Sprintf("%d,customer-%d@example.com\n", i, i) }

func sum(line string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(line))
	return h.Sum64()
}

func writeSample(name string, rows int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for i := range rows {
		_, _ = w.WriteString(row(i))
	}
	return errors.Join(w.Flush(), f.Close())
}

// work is the worker: it prints its address and serves until it is killed.
func work(addrs string) error {
	redisAddr, tasksAddr, _ := strings.Cut(addrs, " ")
	rdb := redis.NewClient(&redis.Options{Addr: redisAddr, ContextTimeoutEnabled: true})
	client, err := handoff.NewClient(context.Background(), handoff.ClientConfig{
		Project: "import", Location: "l", Target: target,
		Options: []option.ClientOption{
			option.WithEndpoint(tasksAddr), option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		},
	})
	if err != nil {
		return err
	}
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true, // an example
		Store:                           redisstore.New(rdb, nil),
		DeadLetters:                     redisstore.NewDeadLetters(rdb, nil),
		Client:                          client,
		Lease:                           time.Second, // how long a killed worker's claim stands in the way
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	handoff.Handle(router, handle)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{Handler: router, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}
