package service

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"sync"

	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/emulator/internal/names"
)

// policies are kept and given back; nothing is ever denied because of one.
type policies struct {
	mu      sync.Mutex
	byQueue map[string]*iampb.Policy
	version uint64
}

// emptyEtag is that of a policy that was never set, the same on every
// Google API.
var emptyEtag = []byte{0, 0x20, 1}

func (p *policies) get(queue string) *iampb.Policy {
	p.mu.Lock()
	defer p.mu.Unlock()
	if policy := p.byQueue[queue]; policy != nil {
		return proto.CloneOf(policy)
	}
	return &iampb.Policy{Etag: emptyEtag}
}

// set replaces the policy, unless the etag it was read with is no longer the
// current one.
func (p *policies) set(queue string, policy *iampb.Policy) (*iampb.Policy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	current := emptyEtag
	if old := p.byQueue[queue]; old != nil {
		current = old.GetEtag()
	}
	if etag := policy.GetEtag(); len(etag) > 0 && !bytes.Equal(etag, current) {
		return nil, status.Error(codes.Aborted, "There were concurrent policy changes. Please retry the whole read-modify-write with exponential backoff.")
	}
	next := proto.CloneOf(policy)
	p.version++
	next.Etag = binary.BigEndian.AppendUint64(nil, p.version)
	if p.byQueue == nil {
		p.byQueue = make(map[string]*iampb.Policy)
	}
	p.byQueue[queue] = next
	return proto.CloneOf(next), nil
}

func (p *policies) drop(queue string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.byQueue, queue)
}

func (p *policies) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.byQueue = nil
}

func (s *Service) GetIamPolicy(_ context.Context, req *iampb.GetIamPolicyRequest) (*iampb.Policy, error) {
	q, err := s.queue(req.GetResource())
	if err != nil {
		return nil, err
	}
	return s.policies.get(q.Name()), nil
}

func (s *Service) SetIamPolicy(_ context.Context, req *iampb.SetIamPolicyRequest) (*iampb.Policy, error) {
	q, err := s.queue(req.GetResource())
	if err != nil {
		return nil, err
	}
	if req.GetPolicy() == nil {
		return nil, invalid("policy is required.")
	}
	if v := req.GetPolicy().GetVersion(); v != 0 && v != 1 && v != 3 {
		return nil, invalid("Invalid value for Policy.version: %d. It must be 0, 1 or 3.", v)
	}
	return s.policies.set(q.Name(), req.GetPolicy())
}

// TestIamPermissions grants the caller everything, or nothing on a queue that
// does not exist, which is no error (docs/cloud-tasks.md#3.3).
func (s *Service) TestIamPermissions(_ context.Context, req *iampb.TestIamPermissionsRequest) (*iampb.TestIamPermissionsResponse, error) {
	if _, ok := names.ParseQueue(req.GetResource()); !ok {
		return nil, errQueueLookup(req.GetResource())
	}
	for _, p := range req.GetPermissions() {
		if strings.Contains(p, "*") {
			return nil, invalid("Permissions with wildcards are not allowed.")
		}
	}
	if s.engine.Queue(req.GetResource()) == nil {
		return new(iampb.TestIamPermissionsResponse), nil
	}
	return &iampb.TestIamPermissionsResponse{Permissions: req.GetPermissions()}, nil
}
