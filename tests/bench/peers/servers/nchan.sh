# Rooms with nginx and nchan, a channel per room:
#
#     sh nchan.sh FOLDER PORT
#
# nginx keeps its files in FOLDER. It replaces this shell, and one process does all the work.

set -eu
folder=$1 port=$2
mkdir -p "$folder"
cat >"$folder/nginx-$port.conf" <<EOF
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off;
master_process off;
worker_rlimit_nofile 20000;
pid $folder/nginx-$port.pid;
error_log stderr crit;
events { worker_connections 20000; }
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    scgi_temp_path $folder/scgi;
    uwsgi_temp_path $folder/uwsgi;
    nchan_shared_memory_size 256M;
    map \$arg_room \$channel { "" lobby; default \$arg_room; }
    server {
        listen 127.0.0.1:$port backlog=4096;
        location = /ws {
            nchan_pubsub websocket;
            nchan_channel_id \$channel;
            nchan_message_buffer_length 100;
            nchan_subscriber_first_message newest;
        }
    }
}
EOF
exec "$(command -v nginx || echo /usr/sbin/nginx)" -c "$folder/nginx-$port.conf"
