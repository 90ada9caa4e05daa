// A client of the original protocol, as in its documentation: the browser's WebSocket API and nothing else.
// The class is an argument, so that the packages for Node can be tested too.

export function connectOriginalClient(WebSocket, url, { onOpen, onData, onClose, onError }) {
  const socket = new WebSocket(url);

  socket.onopen = function () {
    onOpen({ sendMessage, sendCustomEvent, socket });
  };

  socket.onmessage = function (event) {
    onData(JSON.parse(event.data));
  };

  socket.onclose = function (event) {
    onClose(event);
  };

  socket.onerror = function (error) {
    onError(error);
  };

  function sendMessage(text) {
    socket.send(JSON.stringify({ type: "message", payload: text }));
  }

  function sendCustomEvent(data) {
    socket.send(JSON.stringify({ type: "custom_event", payload: data }));
  }
}
