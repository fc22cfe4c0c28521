package conformance_test

import (
	"testing"

	"cloud.google.com/go/cloudtasks/apiv2/cloudtaskspb"
	"cloud.google.com/go/iam/apiv1/iampb"
	"google.golang.org/genproto/googleapis/cloud/location"
	"google.golang.org/grpc/codes"
)

func TestPoliciesAndMixins(t *testing.T) {
	policy := &iampb.Policy{Bindings: []*iampb.Binding{{Role: "roles/cloudtasks.enqueuer", Members: []string{"user:a@example.com"}}}}
	conform(t, []rule{
		{"3.3", "GetIamPolicy: empty if none was set", func(b *bench) {
			p, err := b.client.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: b.queue()})
			b.ok(err)
			b.equal(len(p.GetBindings()), 0)
		}},
		{"3.3", "GetIamPolicy: missing queue", fails(codes.NotFound, "", func(b *bench) error {
			_, err := b.client.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: b.freshName()})
			return err
		})},
		{"3.3", "SetIamPolicy replaces the policy", func(b *bench) {
			b.local("the member does not exist")
			queue := b.queue()
			_, err := b.client.SetIamPolicy(b.ctx, &iampb.SetIamPolicyRequest{Resource: queue, Policy: policy})
			b.ok(err)
			p, err := b.client.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: queue})
			b.ok(err)
			b.equal(len(p.GetBindings()), 1)
			b.protoEqual(p.GetBindings()[0], policy.GetBindings()[0])
			_, err = b.client.SetIamPolicy(b.ctx, &iampb.SetIamPolicyRequest{Resource: queue, Policy: &iampb.Policy{}})
			b.ok(err)
			p, err = b.client.GetIamPolicy(b.ctx, &iampb.GetIamPolicyRequest{Resource: queue})
			b.ok(err)
			b.equal(len(p.GetBindings()), 0)
		}},
		{"3.3", "TestIamPermissions: what the caller holds", func(b *bench) {
			want := []string{"cloudtasks.tasks.create"}
			got, err := b.client.TestIamPermissions(b.ctx, &iampb.TestIamPermissionsRequest{Resource: b.queue(), Permissions: want})
			b.ok(err)
			b.equal(got.GetPermissions(), want)
		}},
		{"3.3", "TestIamPermissions: a missing resource is an empty set, not NOT_FOUND", func(b *bench) {
			got, err := b.client.TestIamPermissions(b.ctx, &iampb.TestIamPermissionsRequest{
				Resource: b.freshName(), Permissions: []string{"cloudtasks.tasks.create"},
			})
			b.ok(err)
			b.equal(len(got.GetPermissions()), 0)
		}},
		{"3.1", "ListLocations and GetLocation", func(b *bench) {
			name := b.parent
			l, err := b.client.GetLocation(b.ctx, &location.GetLocationRequest{Name: name})
			b.ok(err)
			b.equal(l.GetName(), name)
			b.equal("projects/"+b.project+"/locations/"+l.GetLocationId(), name)
			first, err := b.client.ListLocations(b.ctx, &location.ListLocationsRequest{Name: "projects/" + b.project}).Next()
			b.ok(err)
			b.equal(first.GetLabels()["cloud.googleapis.com/region"], first.GetLocationId())
		}},
		{"4", "CmekConfig: set, read, turned off by a blank key", func(b *bench) {
			b.local("it changes the project")
			name := b.parent + "/cmekConfig"
			const key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
			_, err := b.client.UpdateCmekConfig(b.ctx, &cloudtaskspb.UpdateCmekConfigRequest{CmekConfig: &cloudtaskspb.CmekConfig{Name: name, KmsKey: key}})
			b.ok(err)
			got, err := b.client.GetCmekConfig(b.ctx, &cloudtaskspb.GetCmekConfigRequest{Name: name})
			b.ok(err)
			b.protoEqual(got, &cloudtaskspb.CmekConfig{Name: name, KmsKey: key})
			_, err = b.client.UpdateCmekConfig(b.ctx, &cloudtaskspb.UpdateCmekConfigRequest{CmekConfig: &cloudtaskspb.CmekConfig{Name: name}})
			b.ok(err)
			got, err = b.client.GetCmekConfig(b.ctx, &cloudtaskspb.GetCmekConfigRequest{Name: name})
			b.ok(err)
			b.protoEqual(got, &cloudtaskspb.CmekConfig{Name: name})
		}},
	})
}
