package service

import (
	"context"
	"sync"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// How long operations can be found, and a batch that is sent again is
// recognised: an hour, within so many bytes of them.
const (
	operationLife  = time.Hour
	operationBytes = 16 << 20
)

// operations remembers the operations of batches, oldest first.
type operations struct {
	mu     sync.Mutex
	byName map[string]*operation
	order  []*operation // of those that are done
	bytes  int
}

type operation struct {
	name  string
	scope string        // the call and the queue that it was made for
	done  chan struct{} // closed when the result is there

	result *longrunningpb.Operation // read only, since callers share it; nil if it failed
	bytes  int
	ended  time.Time
}

// once returns the operation of this name. The first caller makes it by run;
// callers with the same name get the same one, while it runs and after.
func (o *operations) once(ctx context.Context, name, scope string, run func() (*longrunningpb.Operation, error)) (*longrunningpb.Operation, error) {
	o.mu.Lock()
	if o.byName == nil {
		o.byName = make(map[string]*operation)
	}
	o.expire(time.Now())
	if known := o.byName[name]; known != nil {
		o.mu.Unlock()
		if known.scope != scope {
			return nil, status.Error(codes.AlreadyExists, "The request ID was used for another request.")
		}
		select {
		case <-known.done:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return known.outcome()
	}
	op := &operation{name: name, scope: scope, done: make(chan struct{})}
	o.byName[name] = op
	o.mu.Unlock()

	result, err := run()
	o.mu.Lock()
	defer o.mu.Unlock()
	defer close(op.done)
	if err != nil {
		delete(o.byName, name)
		return nil, err
	}
	op.result = result
	if o.byName[name] != op {
		return result, nil // reset meanwhile
	}
	op.bytes, op.ended = proto.Size(result), time.Now()
	o.order = append(o.order, op)
	o.bytes += op.bytes
	return result, nil
}

func (o *operations) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byName, o.order, o.bytes = nil, nil, 0
}

// expire forgets the operations that are too old or too many.
func (o *operations) expire(now time.Time) {
	n := 0
	for n < len(o.order) && (o.bytes > operationBytes || now.Sub(o.order[n].ended) >= operationLife) {
		o.bytes -= o.order[n].bytes
		delete(o.byName, o.order[n].name)
		n++
	}
	clear(o.order[:n])
	o.order = o.order[n:]
}

// outcome is for operations whose done is closed.
func (op *operation) outcome() (*longrunningpb.Operation, error) {
	if op.result == nil {
		return nil, status.Error(codes.Aborted, "The operation failed.")
	}
	return op.result, nil
}

// GetOperation is the one method of google.longrunning.Operations that the
// service has (docs/cloud-tasks.md#1.1).
func (s *Service) GetOperation(ctx context.Context, req *longrunningpb.GetOperationRequest) (*longrunningpb.Operation, error) {
	s.operations.mu.Lock()
	s.operations.expire(time.Now())
	op := s.operations.byName[req.GetName()]
	s.operations.mu.Unlock()
	if op == nil {
		return nil, errEntityMissing
	}
	select {
	case <-op.done:
		return op.outcome()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}
