package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between one worker and its store, and cuts, slows or swallows what
// passes.
type proxy struct {
	listener net.Listener
	target   string
	cut      atomic.Bool
	swallow  atomic.Bool  // take what is sent and pass nothing on
	delay    atomic.Int64 // added to each read, in ns

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func startProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		if p.cut.Load() {
			client.Close()
			continue
		}
		server, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.track(client, server)
		p.wg.Go(func() { p.copy(server, client) })
		p.wg.Go(func() { p.copy(client, server) })
	}
}

func (p *proxy) track(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
}

func (p *proxy) copy(dst, src net.Conn) {
	defer p.drop(dst, src)
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if d := p.delay.Load(); d > 0 {
			time.Sleep(time.Duration(d))
		}
		if p.cut.Load() {
			return // what was read is lost on the way
		}
		if p.swallow.Load() && err == nil {
			continue
		}
		if _, werr := dst.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

func (p *proxy) drop(conns ...io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c.(net.Conn))
	}
}

// setCut breaks every connection and refuses new ones until it is undone.
func (p *proxy) setCut(cut bool) {
	p.cut.Store(cut)
	if !cut {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// setSwallow passes nothing on until it is undone, when the connections that lost
// something are broken.
func (p *proxy) setSwallow(swallow bool) {
	if !swallow {
		p.setCut(true)
		defer p.setCut(false)
	}
	p.swallow.Store(swallow)
}

func (p *proxy) close() {
	p.listener.Close()
	p.setCut(true)
	p.wg.Wait()
}
