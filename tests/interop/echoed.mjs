/**
 * Runs in a browser. Opens a WebSocket of Engine.IO at `url`, has a text echoed, and returns the
 * extensions that were agreed and the last message.
 */
export async function echoed([url, text]) {
  const ws = new WebSocket(url);
  const messages = [];
  await new Promise((done, failed) => {
    ws.onerror = failed;
    ws.onmessage = ({ data }) => {
      messages.push(data);
      if (data.startsWith("0")) ws.send("40");
      if (data.startsWith("40")) ws.send(`421${JSON.stringify(["echo", text])}`);
      if (data.startsWith("43")) done();
    };
  });
  ws.close();
  return { extensions: ws.extensions, last: messages.at(-1) };
}
