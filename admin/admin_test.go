package admin_test

import (
	"testing"

	"github.com/brillconsulting/handoff/admin"
	"github.com/brillconsulting/handoff/emulator"
	"github.com/brillconsulting/handoff/internal/assert"
)

func TestNewReportsEverything(t *testing.T) {
	t.Setenv("CLOUD_TASKS_EMULATOR_HOST", "http://localhost:8123")
	_, err := admin.New(t.Context(), admin.Config{Project: "projects/p", Location: ""})
	assert.ErrorIs(t, err, admin.ErrInvalid)
	assert.ErrorContains(t, err,
		`admin: Config.Project is "projects/p"; it must be a project ID`,
		`admin: Config.Location is ""; it must be a location ID`,
		`admin: CLOUD_TASKS_EMULATOR_HOST is "http://localhost:8123"`)
}

func TestEmulatorVariable(t *testing.T) {
	srv := emulator.RunT(t, emulator.Config{GRPCAddr: "127.0.0.1:0"})
	t.Setenv("CLOUD_TASKS_EMULATOR_HOST", srv.GRPCAddr())
	a, err := admin.New(t.Context(), admin.Config{Project: project, Location: location})
	assert.NoError(t, err)
	defer a.Close()
	_, err = a.Queues().Ensure(t.Context(), admin.QueueConfig{ID: "emails"})
	assert.NoError(t, err)
	assert.Equal(t, len(srv.Queues()), 1)
}

func TestConfigIsCopied(t *testing.T) {
	t.Parallel()
	a, srv, _ := emulated(t)
	override := &admin.HTTPOverride{Headers: map[string]string{"X-Tenant": "acme"}}
	config := admin.QueueConfig{ID: "emails", HTTPTarget: override}
	queue, err := a.Queues().Create(t.Context(), config)
	assert.NoError(t, err)
	queue.Config.HTTPTarget.Headers["X-Tenant"] = "other"
	assert.Equal(t, override.Headers["X-Tenant"], "acme")
	assert.Equal(t, config.MaxAttempts, 0) // defaults are not written back
	assert.Equal(t, srv.Queues()[0].GetHttpTarget().GetHeaderOverrides()[0].GetHeader().GetValue(), "acme")
}
