"use strict";

let lastId = 0;

/** Call a method of the service; the page comes from there, so nothing needs to be allowed. */
async function call(method, params) {
  const response = await fetch("/api", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: ++lastId, method, params }),
  });
  const reply = await response.json();
  if (reply.error) {
    throw new Error(reply.error.message);
  }
  return reply.result;
}

function show(notes) {
  const items = notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  });
  document.querySelector("#notes").replaceChildren(...items);
}

document.querySelector("#new-note").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const error = document.querySelector("#error");
  error.textContent = "";
  try {
    show(await call("notes.add", { text: form.elements.text.value }));
    form.reset();
  } catch (problem) {
    error.textContent = problem.message;
  }
});
