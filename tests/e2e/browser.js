// Two people on one page; what each heard goes back to the server as a report.
const heard = { ada: [], bob: [] };
const expected = { ada: 2, bob: 4 };

function describe(data) {
  if (data instanceof ArrayBuffer) return `bytes ${new Uint8Array(data).join()}`;
  return data.length > 1000 ? `length ${data.length}` : `text ${data}`;
}

function join(name) {
  const socket = new WebSocket(`ws://${location.host}/room`);
  socket.binaryType = "arraybuffer";
  const done = new Promise((resolve) => {
    socket.onmessage = (event) => {
      heard[name].push(describe(event.data));
      if (heard[name].length === expected[name]) resolve();
    };
  });
  const open = new Promise((resolve) => { socket.onopen = resolve; });
  const closed = new Promise((resolve) => { socket.onclose = (event) => resolve(event.code); });
  return { socket, open, done, closed };
}

async function chat() {
  const ada = join("ada"), bob = join("bob");
  await Promise.all([ada.open, bob.open]);
  ada.socket.send("hello bob");
  ada.socket.send(new Uint8Array([0, 255, 128]));
  ada.socket.send("x".repeat(100000));
  await bob.done;
  bob.socket.send("hi ada, \u{e9}\u{1f600}");
  await ada.done;
  ada.socket.close(1000, "bye");
  const closed = await ada.closed;
  const page = await fetch("/");
  const report = { ...heard, type: page.headers.get("content-type"), closed };
  await fetch("/report", { method: "POST", body: JSON.stringify(report) });
}

chat().catch((error) => fetch("/report", { method: "POST", body: JSON.stringify(String(error)) }));
