package service

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/brillconsulting/handoff/emulator/internal/names"
)

// cmek holds the encryption keys of locations. Nothing is encrypted; what is
// kept to is that such a key and queue-level routing exclude each other
// (docs/cloud-tasks.md#4, #9.8).
type cmek struct {
	mu         sync.Mutex
	byLocation map[string]string
	keys       atomic.Int32 // so that creating a task need not ask while there are none
}

var keyName = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$`)

func (c *cmek) get(location string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byLocation[location]
}

func (c *cmek) set(location, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byLocation == nil {
		c.byLocation = make(map[string]string)
	}
	c.byLocation[location] = key
	if key == "" {
		delete(c.byLocation, location)
	}
	c.keys.Store(int32(len(c.byLocation)))
}

func (c *cmek) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byLocation = nil
	c.keys.Store(0)
}

// excludes is the error for routing on a queue whose location has a key. Its
// code and text are unknown.
func (c *cmek) excludes(queue string, target *cloudtaskspb.HttpTarget) error {
	if target == nil || c.keys.Load() == 0 {
		return nil
	}
	if location, _, _ := names.SplitQueue(queue); c.get(location) == "" {
		return nil
	}
	return status.Error(codes.FailedPrecondition, "Queue-level routing (Queue.httpTarget) cannot be used in a location with a CMEK key.")
}

func (s *Service) GetCmekConfig(_ context.Context, req *cloudtaskspb.GetCmekConfigRequest) (*cloudtaskspb.CmekConfig, error) {
	location, err := cmekLocation(req.GetName())
	if err != nil {
		return nil, err
	}
	return &cloudtaskspb.CmekConfig{Name: req.GetName(), KmsKey: s.cmek.get(location)}, nil
}

func (s *Service) UpdateCmekConfig(_ context.Context, req *cloudtaskspb.UpdateCmekConfigRequest) (*cloudtaskspb.CmekConfig, error) {
	name := req.GetCmekConfig().GetName()
	location, err := cmekLocation(name)
	if err != nil {
		return nil, err
	}
	config := &cloudtaskspb.CmekConfig{Name: name, KmsKey: s.cmek.get(location)}
	if err := merge(config, proto.CloneOf(req.GetCmekConfig()), req.GetUpdateMask(), map[string]bool{"name": true}); err != nil {
		return nil, err
	}
	if config.GetKmsKey() != "" && !keyName.MatchString(config.GetKmsKey()) {
		return nil, invalid(`CmekConfig.kmsKey must be formatted: "projects/PROJECT_ID/locations/LOCATION_ID/keyRings/KEY_RING_ID/cryptoKeys/KEY_ID".`)
	}
	s.cmek.set(location, config.GetKmsKey())
	return config, nil
}

func cmekLocation(name string) (string, error) {
	location, ok := strings.CutSuffix(name, "/cmekConfig")
	if _, _, valid := names.SplitLocation(location); !ok || !valid {
		return "", errResource(name)
	}
	return location, nil
}
