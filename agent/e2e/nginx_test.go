//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shadowtap/shadowtap/agent/e2e/bed"
)

// The reference: nginx answers each path in a way of its own, and says by
// X-Answers which request an answer belongs to (its argument n), so that the
// load notices any mix-up.
const nginxConf = `
daemon off;
user root;
worker_processes 2;
error_log stderr warn;
pid %[1]s/nginx.pid;
events { worker_connections 2048; }
http {
  log_format exchanges escape=none '$request_method $request_uri $status $body_bytes_sent';
  # The bytes of a chunked answer have the chunks' own lines in them.
  log_format chunked escape=none '$request_method $request_uri $status chunked';
  access_log %[1]s/access.log exchanges;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  keepalive_requests 1000000;
  default_type application/json;
  gzip_min_length 1;
  server_tokens off;
  server {
    listen 8080 backlog=1024;
    listen [::]:8080 ipv6only=on backlog=1024;
    root %[1]s/www;
    add_header X-Answers $arg_n always;
    add_header X-Version 1 always;
    location ~ ^/api/(?<value>[A-Za-z0-9-]+)$ {
      return 200 '{"value":"$value","count":7,"tags":["a","b"],"deep":{"id":12345678901234567890}}\n';
    }
    location ~ ^/missing/ { return 404 '{"error":"none"}\n'; }
    location ~ ^/busy/ { return 503 '{"error":"busy"}\n'; }
    location ~ ^/moved/ { absolute_redirect off; return 302 /api/there; }
    location ~ ^/empty/ { return 204; }
    location = /probe { access_log off; return 204; }
    location ~ ^/text/(?<value>[A-Za-z0-9-]+)$ { default_type text/plain; return 200 'the value is $value\n'; }
    location ~ ^/write/ { return 201 '{"written":true}\n'; }
    location /file/ { default_type application/octet-stream; }
    location /packed/ { access_log %[1]s/access.log chunked; gzip on; gzip_types application/json; }
    location ~ ^/secret/ {
      add_header Set-Cookie 'session=%[2]s; Path=/' always;
      add_header X-Answers $arg_n always;
      return 200 '%[3]s\n';
    }
  }
}
`

// Sizes of the files below /file/, by name.
var fileSizes = map[string]int{"1b": 1, "4k": 4 << 10, "64k": 64 << 10, "1m": 1 << 20}

// packedJSON is the text below /packed/, which nginx compresses.
var packedJSON = `{"list":[` + strings.Repeat(`{"name":"some thing","size":12},`, 200) + `{}]}` + "\n"

// nginx is the running reference.
type nginx struct {
	process *bed.Process
	dir     string
}

func startNginx(t *testing.T, s *stage) *nginx {
	t.Helper()
	n := &nginx{dir: t.TempDir()}
	write := func(name string, text []byte) {
		t.Helper()
		file := filepath.Join(n.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, size := range fileSizes {
		write("www/file/"+name, fileContent(size))
	}
	write("www/packed/list", []byte(packedJSON))
	write("nginx.conf", fmt.Appendf(nil, nginxConf, n.dir, secretSetCookie, secretBody))
	n.process = s.server.Start(t, bed.Command{
		Path: "nginx", Args: []string{"-p", n.dir, "-e", "stderr", "-c", filepath.Join(n.dir, "nginx.conf")},
		// It answers what it has begun and ends.
		StopSignal: syscall.SIGQUIT,
	})
	client := &http.Client{Transport: &http.Transport{DialContext: s.server.DialContext, DisableKeepAlives: true}}
	bed.Poll(t, 20*time.Second, "nginx answers", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+serverAddr4+"/probe", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			return false, err.Error() + n.process.Tail()
		}
		res.Body.Close()
		return res.StatusCode == http.StatusNoContent, res.Status
	})
	return n
}

// movedPage is nginx's own page of a 302.
const movedPage = "<html>\r\n<head><title>302 Found</title></head>\r\n<body>\r\n<center><h1>302 Found</h1></center>\r\n" +
	"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"

// fileContent is bytes that no compression or repetition makes equal.
func fileContent(size int) []byte {
	b := make([]byte, size)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// exchanges are the lines of the access log, each with how often it is there.
// Call it when the load has ended: nginx writes a line behind the answer.
func (n *nginx) exchanges(t *testing.T, want int) map[string]int {
	t.Helper()
	lines := map[string]int{}
	bed.Poll(t, 10*time.Second, fmt.Sprintf("%d lines in nginx's log", want), func() (bool, string) {
		f, err := os.Open(filepath.Join(n.dir, "access.log"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		clear(lines)
		count := 0
		s := bufio.NewScanner(f)
		for s.Scan() {
			lines[s.Text()]++
			count++
		}
		return count >= want, fmt.Sprintf("%d lines", count)
	})
	return lines
}
