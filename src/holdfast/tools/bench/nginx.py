"""The baseline: one nginx worker that is both the constant upstream and, on a second port, a reverse proxy in front of it."""

import shutil
from string import Template

from holdfast.tools.bench.children import Child, Children, free_port, wait_until_listening
from holdfast.tools.bench.wire import constant_answer

INSTALL = (
    "install it (Debian and Ubuntu: apt-get install nginx-light; Fedora: dnf install nginx; macOS: brew install nginx)"
)
PLACES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
FOREVER = "1000000000"
CONFIGURATION = Template("""
daemon off;
master_process off;
worker_processes 1;
pid $folder/nginx.pid;
error_log stderr warn;
events { worker_connections 16384; multi_accept on; }
http {
  access_log off;
  server_tokens off;
  tcp_nodelay on;
  keepalive_timeout 600s;
  keepalive_requests $forever;
  client_body_buffer_size 64k;
  client_body_temp_path $folder/body;
  proxy_temp_path $folder/proxy;
  fastcgi_temp_path $folder/fastcgi;
  uwsgi_temp_path $folder/uwsgi;
  scgi_temp_path $folder/scgi;
  upstream mock {
    server 127.0.0.1:$mock;
    keepalive 256;
    keepalive_requests $forever;
    keepalive_timeout 600s;
  }
  server {
    listen 127.0.0.1:$mock backlog=4096;
    default_type application/json;
    location / { return 200 '$answer'; }
  }
  server {
    listen 127.0.0.1:$proxy backlog=4096;
    location / {
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }
  }
}
""")


def find() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path=PLACES)


def start(children: Children, program: str, mock_port: int) -> tuple[Child, int, int]:
    """The process, the upstream's port and the proxy's."""
    mock, proxy = mock_port or free_port(), free_port()
    folder = children.folder / "nginx"
    folder.mkdir()
    written = folder / "nginx.conf"
    answer = constant_answer().decode()
    written.write_text(CONFIGURATION.substitute(folder=folder, forever=FOREVER, mock=mock, proxy=proxy, answer=answer))
    child = children.start("nginx", [program, "-p", str(folder), "-e", "stderr", "-c", str(written)])
    wait_until_listening(child, mock)
    wait_until_listening(child, proxy)
    return child, mock, proxy
