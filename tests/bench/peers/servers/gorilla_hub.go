// Rooms with gorilla/websocket: a goroutine that owns the rooms, and two goroutines and a channel per client, like the
// package's chat example.
//
//	gorilla_hub PORT
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/gorilla/websocket"
)

const (
	welcome = `{"type":"message","payload":"welcome","from":"server"}`
	// Messages that a client may lag behind. One that lags further is closed, as in the example.
	queued = 256
)

type client struct {
	socket *websocket.Conn
	room   string
	send   chan *websocket.PreparedMessage
}

type publication struct {
	room    string
	message *websocket.PreparedMessage
}

type hub struct {
	rooms      map[string]map[*client]struct{}
	register   chan *client
	unregister chan *client
	publish    chan publication
}

func (h *hub) run() {
	for {
		select {
		case c := <-h.register:
			if h.rooms[c.room] == nil {
				h.rooms[c.room] = make(map[*client]struct{})
			}
			h.rooms[c.room][c] = struct{}{}
		case c := <-h.unregister:
			h.remove(c)
		case p := <-h.publish:
			for c := range h.rooms[p.room] {
				select {
				case c.send <- p.message:
				default:
					h.remove(c)
				}
			}
		}
	}
}

func (h *hub) remove(c *client) {
	members := h.rooms[c.room]
	if _, ok := members[c]; ok {
		delete(members, c)
		close(c.send)
		if len(members) == 0 {
			delete(h.rooms, c.room)
		}
	}
}

func (h *hub) read(c *client) {
	defer func() {
		h.unregister <- c
		c.socket.Close()
	}()
	for {
		kind, text, err := c.socket.ReadMessage()
		if err != nil {
			return
		}
		// Encoded once for all members.
		message, err := websocket.NewPreparedMessage(kind, text)
		if err != nil {
			return
		}
		h.publish <- publication{c.room, message}
	}
}

func (c *client) write() {
	defer c.socket.Close()
	for message := range c.send {
		if c.socket.WritePreparedMessage(message) != nil {
			return
		}
	}
	c.socket.WriteMessage(websocket.CloseMessage, nil)
}

func main() {
	h := &hub{
		rooms:      make(map[string]map[*client]struct{}),
		register:   make(chan *client),
		unregister: make(chan *client),
		publish:    make(chan publication, queued),
	}
	go h.run()
	upgrader := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	greeting, err := websocket.NewPreparedMessage(websocket.TextMessage, []byte(welcome))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		room := r.URL.Query().Get("room")
		if room == "" {
			room = "lobby"
		}
		c := &client{socket, room, make(chan *websocket.PreparedMessage, queued)}
		c.send <- greeting
		h.register <- c
		go c.write()
		h.read(c)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
