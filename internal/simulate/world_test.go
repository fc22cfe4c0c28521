package simulate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	oldrand "math/rand" //nolint:depguard // the source of gax's jitter
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/brillconsulting/handoff"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/memstore"
)

const (
	parent = "projects/p/locations/l"
	lease  = 30 * time.Second

	foreignMax = 3

	// headerWork names the piece of work of a task. It is one of the producer's own
	// headers, so copies of the task keep it.
	headerWork = "Sim-Work"
)

// world is one simulation.
type world struct {
	seed     uint64
	t        *testing.T
	sabotage sabotage
	trouble  float64       // probability that a call fails
	skew     time.Duration // of the producer's clock
	long     bool          // its work takes days, in steps
	rng      *rand.Rand

	tasks   *emulator.Server
	client  *handoff.Client
	store   handoff.Store
	letters handoff.DeadLetterStore
	begun   time.Time
	over    chan struct{} // closed when the world ends
	open    sync.WaitGroup

	mu     sync.Mutex
	procs  []*process // alive
	all    []*process
	jobs   map[string]*job
	keys   map[string]string // the store's key → work
	chains map[string]int    // task → redrives before it
	counts map[string]int
	stalls []stall
	cut    chan struct{}     // closed when the store restarts
	works  map[string]string // full name of a task → work
	ledger map[string]*history
	longs  map[string]*longWork
	faults map[string]int
}

// stall is a time during which no call reaches the store.
type stall struct {
	from, to time.Duration
	how      fault
}

// process is a worker. The goroutines of a dead process may still run, but none of
// their calls gets through.
type process struct {
	n      int
	router *handoff.Router
	works  map[string]bool // work of which it had claims; guarded by world.mu
	dead   atomic.Bool
	died   chan struct{}
	frozen time.Duration // until when no call gets through; guarded by world.mu
}

// Keys of context values: the *process and the *delivery of a delivery, and whether
// the call is part of a redrive.
type (
	inProcess  struct{}
	inDelivery struct{}
	inRedrive  struct{}
)

// delivery is one request to a worker.
type delivery struct {
	work  string
	chain int           // how many redrives led to its task
	lease handoff.Lease // its claim
}

// draw returns a number in [0, 1) that depends only on the seed and the parts.
func (w *world) draw(parts ...any) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, w.seed, parts)
	return rand.New(rand.NewPCG(w.seed, h.Sum64())).Float64()
}

func (w *world) drawTime(from, to time.Duration, parts ...any) time.Duration {
	return from + time.Duration(w.draw(parts...)*float64(to-from))
}

// count returns how often it was called with these parts.
func (w *world) count(parts ...any) int {
	name := fmt.Sprint(parts...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[name]++
	return w.counts[name]
}

func (w *world) now() time.Duration { return time.Since(w.begun) }

// pause sleeps for d. It returns false as soon as one of the channels is closed or
// the world ends.
func (w *world) pause(d time.Duration, ends ...<-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var ended [3]<-chan struct{}
	copy(ended[:], ends)
	select {
	case <-timer.C:
		return true
	case <-ended[0]:
	case <-ended[1]:
	case <-ended[2]:
	case <-w.over:
	}
	return false
}

// simulate runs a world in a bubble and returns what was wrong with it.
// newStores makes the stores of a world. A test in internal/integration/sql has worlds
// with others.
var newStores = func(*testing.T) (handoff.Store, handoff.DeadLetterStore) {
	return memstore.New(), memstore.NewDeadLetters()
}

func simulate(t *testing.T, seed uint64, s sabotage) *world {
	t.Helper()
	return simulated(t, seed, s, false)
}

func simulated(t *testing.T, seed uint64, s sabotage, long bool) *world {
	t.Helper()
	w := &world{
		seed: seed, sabotage: s, long: long, rng: rand.New(rand.NewPCG(seed, 1)),
		jobs: map[string]*job{}, keys: map[string]string{}, chains: map[string]int{}, counts: map[string]int{}, ledger: map[string]*history{}, faults: map[string]int{},
		works: map[string]string{}, longs: map[string]*longWork{},
	}
	oldrand.Seed(int64(seed)) //nolint:staticcheck // reproducible jitter
	synctest.Test(t, func(t *testing.T) { w.run(t) })
	return w
}

func (w *world) run(t *testing.T) {
	ctx := context.Background()
	w.t = t
	w.begun, w.over, w.cut = time.Now(), make(chan struct{}), make(chan struct{}) // of the bubble
	w.trouble = []float64{0, 0.02, 0.08}[w.rng.IntN(3)]
	var store handoff.Store
	store, w.letters = newStores(t)
	w.store = w.sabotage.wrap(store)
	var err error
	if w.tasks, err = emulator.New(emulator.Config{Handler: w}); err != nil {
		t.Fatal(err)
	}
	defer w.tasks.Close()
	w.client, err = handoff.NewClient(ctx, handoff.ClientConfig{
		Project: "p", Location: "l", Policy: handoff.Policy{Queue: "q"},
		Target:  handoff.HTTPTarget{URL: "https://worker.example.com/tasks", DangerouslySendUnsigned: true},
		Options: append(w.tasks.ClientOptions(), option.WithGRPCDialOption(grpc.WithUnaryInterceptor(w.intercept))),
		Logger:  slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.client.Close()
	for _, queue := range []string{"q", "q2"} {
		if _, err := cloudtaskspb.NewCloudTasksClient(w.tasks.Conn()).CreateQueue(ctx, &cloudtaskspb.CreateQueueRequest{
			Parent: parent, Queue: &cloudtaskspb.Queue{Name: parent + "/queues/" + queue},
		}); err != nil {
			t.Fatal(err)
		}
	}
	w.skew = []time.Duration{0, 0, -2 * time.Minute, 2 * time.Minute}[w.rng.IntN(4)]
	for range 2 + w.rng.IntN(2) {
		w.startProcess()
	}
	if w.long {
		w.enqueueLong(ctx)
	} else {
		w.schedule()
		w.enqueueAll(ctx)
	}
	w.settle(ctx)
	for round := range 2 {
		w.redriveSome(ctx, round)
		w.settle(ctx)
	}
	close(w.over)
	w.open.Wait()
	for _, p := range w.all {
		_ = p.router.Shutdown(ctx)
	}
	w.check(ctx)
}

// settle waits until no task is left and no delivery is running.
func (w *world) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 40*24*time.Hour)
	defer cancel()
	if err := w.tasks.Wait(ctx); err != nil {
		for _, task := range append(w.tasks.Tasks("q"), w.tasks.Tasks("q2")...) {
			w.violatef(task.GetHttpRequest().GetHeaders()[headerWork], "%s is still there after forty days", task.GetName())
		}
	}
	time.Sleep(2 * time.Hour) // for late deliveries
}

// startProcess starts a worker.
func (w *world) startProcess() {
	p := &process{died: make(chan struct{}), works: map[string]bool{}}
	w.mu.Lock()
	p.n = len(w.all)
	w.mu.Unlock()
	router, err := handoff.NewRouter(handoff.RouterConfig{
		DangerouslyAllowUnauthenticated: true,
		Store:                           &storeAccess{w, p},
		DeadLetters:                     &letterAccess{w, p},
		Client:                          w.client,
		Lease:                           lease,
		ForeignMaxAttempts:              foreignMax,
		Observers:                       []handoff.Observer{w.observer()},
		OnDead:                          func(_ context.Context, l handoff.DeadLetter) { w.explode("OnDead", workOf(l)) },
		Logger:                          slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Error(err)
		return
	}
	handoff.Handle(router, func(ctx context.Context, j job) error { return w.handle(ctx, p, j) })
	handoff.Handle(router, func(ctx context.Context, j longJob) error { return w.handleLong(ctx, p, j) })
	p.router = router
	w.mu.Lock()
	defer w.mu.Unlock()
	w.procs, w.all = append(w.procs, p), append(w.all, p)
}

// kill ends a process without a shutdown. Another replaces it after gone, or at
// once if it was the last one.
func (w *world) kill(p *process, gone time.Duration) {
	w.mu.Lock()
	last := len(w.procs) == 1
	w.mu.Unlock()
	if last {
		w.startProcess()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.procs, p)
	if i < 0 {
		return // already dead
	}
	w.procs = slices.Delete(slices.Clone(w.procs), i, i+1)
	p.dead.Store(true)
	close(p.died)
	w.faults["death"]++
	for work := range p.works {
		w.of(work).hits++
	}
	if !last {
		w.open.Go(func() {
			if w.pause(gone) {
				w.startProcess()
			}
		})
	}
}

// schedule plans the events of the whole world: deaths, drains and stalls.
func (w *world) schedule() {
	if w.trouble == 0 && w.rng.IntN(2) == 0 {
		return
	}
	for range w.rng.IntN(4) {
		at := time.Duration(w.rng.Int64N(int64(20 * time.Minute)))
		how := []fault{refused, hangs, lost}[w.rng.IntN(3)]
		w.stalls = append(w.stalls, stall{at, at + time.Duration(w.rng.Int64N(int64(90*time.Second))), how})
	}
	for range w.rng.IntN(3) { // the store restarts
		at, down := time.Duration(w.rng.Int64N(int64(30*time.Minute))), time.Duration(w.rng.Int64N(int64(20*time.Second)))
		w.stalls = append(w.stalls, stall{at, at + down, refused})
		w.open.Go(func() {
			if w.pause(at) {
				w.restartStore()
			}
		})
	}
	for range w.rng.IntN(5) {
		at, gone := time.Duration(w.rng.Int64N(int64(30*time.Minute))), time.Duration(w.rng.Int64N(int64(time.Minute)))
		drain, which := w.rng.IntN(3) == 0, w.rng.IntN(8)
		w.open.Go(func() {
			if !w.pause(at) {
				return
			}
			w.mu.Lock()
			p := w.procs[which%len(w.procs)]
			w.mu.Unlock()
			if drain { // a deploy: the process is killed ten seconds later
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_ = p.router.Shutdown(ctx)
				cancel()
			}
			w.kill(p, gone)
		})
	}
}

// restartStore breaks the running calls. The store keeps its data.
func (w *world) restartStore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.cut)
	w.cut = make(chan struct{})
	w.faults["store restarts"]++
}

// explode sometimes panics, as an observer or a hook with a bug does.
func (w *world) explode(where, work string) {
	if w.draw(where, work, w.count(where, work)) < w.trouble/2 {
		w.fault(where + " panics")
		panic("simulated")
	}
}

func (w *world) observer() handoff.Observer {
	return handoff.Observer{
		Begin: func(_ context.Context, req *http.Request) { w.explode("Begin", req.Header.Get(headerWork)) },
		Verified: func(ctx context.Context, _ handoff.Info, header http.Header) context.Context {
			w.explode("Verified", header.Get(headerWork))
			return ctx
		},
		End: func(_ context.Context, d handoff.Delivery) { w.explode("End", d.Info.Header.Get(headerWork)) },
	}
}

// intercept wraps every call of the client. Calls of a worker end when it dies.
func (w *world) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	p, _ := ctx.Value(inProcess{}).(*process)
	create, ok := req.(*cloudtaskspb.CreateTaskRequest)
	if !ok {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	work := create.GetTask().GetHttpRequest().GetHeaders()[headerWork]
	n := w.count("create", work)
	how := w.faultOf("create", work, n)
	w.shift(create.GetTask().GetHttpRequest().GetHeaders())
	if p != nil && how == dies {
		w.kill(p, time.Minute)
	}
	if p != nil && p.dead.Load() || how == refused {
		return status.Error(codes.Unavailable, "simulated")
	}
	if how == hangs {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	}
	w.chain(ctx, work, create.GetTask().GetName())
	if w.sabotage == freshCopies {
		delete(create.GetTask().GetHttpRequest().GetHeaders(), "Handoff-Attempts")
	}
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err == nil {
		w.created(work, reply)
		w.copied(ctx)
	}
	if p != nil && how == diesAfter {
		w.kill(p, time.Minute)
	}
	if how == lost || p != nil && p.dead.Load() {
		return status.Error(codes.Unavailable, "simulated: the response is lost")
	}
	return err
}

// chain records how many redrives led to a new task. A copy has the number of the
// task that it copies.
func (w *world) chain(ctx context.Context, work, task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	task = path.Base(task)
	if _, known := w.chains[task]; known || task == "." {
		return // the second redrive of a letter made no new task
	}
	if d, ok := ctx.Value(inDelivery{}).(*delivery); ok {
		w.chains[task] = d.chain
	} else if ctx.Value(inRedrive{}) != nil {
		w.of(work).redrives++
		w.chains[task] = w.of(work).redrives
	}
}

// shift writes the stamps of a task as a producer with a wrong clock would.
func (w *world) shift(header map[string]string) {
	for _, name := range []string{"Handoff-Enqueued", "Handoff-Expires"} {
		if ms, err := strconv.ParseInt(header[name], 10, 64); err == nil {
			header[name] = strconv.FormatInt(ms+w.skew.Milliseconds(), 10)
		}
	}
}

// ServeHTTP passes a dispatch of the emulator to a worker. It may lose the
// response, or deliver twice or late.
func (w *world) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	work := req.Header.Get(headerWork)
	n := w.count("delivery", work)
	if w.draw("unreachable", work, n) < w.trouble/2 {
		panic(http.ErrAbortHandler)
	}
	if w.draw("twice", work, n) < w.trouble {
		w.fault("delivered twice")
		w.open.Go(func() {
			if w.pause(w.drawTime(0, 100*time.Millisecond, "twice at", work, n)) {
				_, _ = w.deliver(context.WithoutCancel(req.Context()), req, body, work, n, "twin")
			}
		})
	}
	code, ok := w.deliver(req.Context(), req, body, work, n, "")
	if ok && code < 300 && w.draw("late", work, n) < w.trouble {
		w.fault("delivered late")
		w.open.Go(func() {
			if w.pause(w.drawTime(time.Second, 50*time.Minute, "late at", work, n)) {
				_, _ = w.deliver(context.WithoutCancel(req.Context()), req, body, work, n, "late")
			}
		})
	}
	if !ok || w.draw("response", work, n) < w.trouble/2 {
		w.fault("response lost")
		panic(http.ErrAbortHandler)
	}
	if w.sabotage == ackBusy && code == http.StatusConflict {
		code = http.StatusOK
	}
	rw.WriteHeader(code)
}

// deliver lets a worker serve the request. It returns false if the connection broke
// before the response.
func (w *world) deliver(ctx context.Context, req *http.Request, body []byte, work string, n int, as string) (code int, ok bool) {
	w.pause(w.drawTime(0, 5*time.Millisecond, "network", work, n, as))
	w.mu.Lock()
	p := w.procs[int(w.draw("worker", work, n, as)*float64(len(w.procs)))]
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithValue(context.WithValue(ctx, inProcess{}, p), inDelivery{}, &delivery{work: work, chain: w.chainOf(req)}), 10*time.Minute)
	r := req.Clone(ctx)
	r.Body = w.bodyOf(body, work, n, as)
	rec, done := httptest.NewRecorder(), make(chan bool, 1)
	w.open.Go(func() {
		defer cancel()
		served := false
		defer func() { _ = recover(); done <- served }() // http.ErrAbortHandler
		p.router.ServeHTTP(rec, r)
		served = true
	})
	select {
	case ok = <-done:
	case <-p.died:
	case <-ctx.Done():
	}
	if !ok || p.dead.Load() {
		w.notef(work, "delivery %d%s to worker %d: connection lost", n, as, p.n)
		return 0, false
	}
	w.notef(work, "delivery %d%s to worker %d: %d", n, as, p.n, rec.Code)
	return rec.Code, true
}

func (w *world) chainOf(req *http.Request) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.chains[req.Header.Get("X-CloudTasks-TaskName")]
}

func (w *world) enqueueAll(ctx context.Context) {
	for i := range 4 + w.rng.IntN(5) {
		j := &job{Work: fmt.Sprint("w", i), Max: 1 + w.rng.IntN(4), TTL: []time.Duration{time.Hour, 24 * time.Hour, 0}[w.rng.IntN(3)]}
		opts := []handoff.Option{handoff.Header(headerWork, j.Work), handoff.In(time.Duration(w.rng.Int64N(int64(5 * time.Minute))))}
		var err error
		switch w.rng.IntN(6) {
		case 0: // two tasks for one piece of work
			j.How = "keyed"
			w.jobs[j.Work] = j
			opts = append(opts, handoff.Key(j.Work))
			_, err = w.client.Enqueue(ctx, *j, opts...)
			opts = append(opts, handoff.OnQueue("q2"))
			_, err2 := w.client.Enqueue(ctx, *j, opts...)
			err = errors.Join(err, err2)
		case 2:
			j.How = []string{explodes, "", ""}[w.rng.IntN(3)]
			w.jobs[j.Work] = j
			_, err = w.client.Enqueue(ctx, *j, opts...)
		case 1:
			j.How, j.Max, j.TTL = "foreign", foreignMax, 0
			w.jobs[j.Work] = j
			err = w.enqueueForeign(ctx, j)
		default:
			w.jobs[j.Work] = j
			_, err = w.client.Enqueue(ctx, *j, opts...)
		}
		w.notef(j.Work, "enqueued, at most %d attempts, TTL %v, %s: %v", j.Max, j.TTL, j.How, err)
		w.pause(time.Duration(w.rng.Int64N(int64(30 * time.Second))))
	}
}

// enqueueForeign creates a task as a program without this package would.
func (w *world) enqueueForeign(ctx context.Context, j *job) error {
	body, err := json.Marshal(j)
	if err != nil {
		return err
	}
	task, err := cloudtaskspb.NewCloudTasksClient(w.tasks.Conn()).CreateTask(ctx, &cloudtaskspb.CreateTaskRequest{
		Parent: parent + "/queues/q", Task: &cloudtaskspb.Task{MessageType: &cloudtaskspb.Task_HttpRequest{HttpRequest: &cloudtaskspb.HttpRequest{
			Url: "https://worker.example.com/tasks/job", Body: body, Headers: map[string]string{headerWork: j.Work, "Content-Type": "application/json"},
		}}},
	})
	if err == nil {
		w.created(j.Work, task)
	}
	return err
}

// redriveSome redrives half of the letters, some of them twice at once.
func (w *world) redriveSome(ctx context.Context, round int) {
	page, err := w.letters.List(ctx, handoff.DeadLetterQuery{Limit: 100})
	if err != nil {
		panic(err)
	}
	ctx = context.WithValue(ctx, inRedrive{}, true)
	var wait sync.WaitGroup
	for _, l := range page.Letters {
		work := workOf(l)
		if w.draw("redrive", work, round) < 0.5 {
			continue
		}
		for range 1 + int(2*w.draw("redrives", work, round)) {
			at := w.drawTime(0, time.Millisecond, "redrive at", work, round, w.count("redrive", work))
			wait.Go(func() {
				w.pause(at)
				_, err := w.client.Redrive(ctx, w.letters, l.ID)
				w.notef(work, "redrive: created %v", err == nil)
			})
		}
	}
	wait.Wait()
}

func workOf(l handoff.DeadLetter) string { return http.Header(l.Header).Get(headerWork) }
