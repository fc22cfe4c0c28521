package redistest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// slots is the number of hash slots that the nodes of every Redis Cluster share.
const slots = 16384

// Nodes are the servers of a Redis Cluster.
type Nodes []*Server

// Addrs returns the seed addresses for a cluster client.
func (n Nodes) Addrs() []string {
	addrs := make([]string, len(n))
	for i, s := range n {
		addrs[i] = s.Addr()
	}
	return addrs
}

// Cluster runs a Redis Cluster of masters that share the slots evenly. It returns
// when every node reports the cluster as healthy. That takes a few seconds, because
// Redis waits two before a master accepts writes. Use at least three masters, so that
// a majority is left when one is down.
func Cluster(t testing.TB, masters int, args ...string) Nodes {
	t.Helper()
	nodes := make(Nodes, masters)
	busPorts := make([]string, masters)
	for i := range nodes {
		// The default, port + 10000, may not exist or not be free.
		busPorts[i] = freePort(t)
		nodes[i] = Run(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", busPorts[i], "--cluster-node-timeout", "2000",
		}, args...)...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyDeadline)
	defer cancel()
	for i, s := range nodes {
		if err := join(ctx, s, i, nodes, busPorts); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range nodes {
		if err := waitHealthy(ctx, s, masters); err != nil {
			t.Fatal(err)
		}
	}
	return nodes
}

// join assigns node i its slots and introduces it to the first node. Gossip does the
// rest.
func join(ctx context.Context, s *Server, i int, nodes Nodes, busPorts []string) error {
	client := connect(s.Addr())
	defer client.Close()
	// Epochs must differ between masters. Setting them here avoids a vote.
	if err := client.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
		return fmt.Errorf("redistest: set the epoch of node %d: %w", i, err)
	}
	from, to := slots*i/len(nodes), slots*(i+1)/len(nodes)-1
	if err := client.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
		return fmt.Errorf("redistest: give node %d the slots %d to %d: %w", i, from, to, err)
	}
	if i == 0 {
		return nil
	}
	// The client's ClusterMeet has no argument for the port of the bus.
	if err := client.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", nodes[0].port, busPorts[0]).Err(); err != nil {
		return fmt.Errorf("redistest: introduce node %d to the first: %w", i, err)
	}
	return nil
}

func waitHealthy(ctx context.Context, s *Server, masters int) error {
	client := connect(s.Addr())
	defer client.Close()
	want := []string{"cluster_state:ok\r\n", fmt.Sprintf("cluster_slots_ok:%d\r\n", slots), fmt.Sprintf("cluster_size:%d\r\n", masters)}
	for {
		info, err := client.ClusterInfo(ctx).Result()
		missing := ""
		for _, text := range want {
			if !strings.Contains(info, text) {
				missing = text
			}
		}
		if err == nil && missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("redistest: cluster not healthy after %v: want %q, %w\n%s", readyDeadline, missing, err, info)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
