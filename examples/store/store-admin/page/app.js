// The store's admin page: a list of products, a form, and a button that asks
// the model for a description.
const $ = (id) => document.getElementById(id);
const money = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });

let products = [];
let editing = null; // the product in the form; null: a new one
let asking = null; // the AbortController of a question to the model
let before = ""; // the description that the model's text replaced

// api asks the store and returns the answer's JSON. An error's message is what
// the service said.
async function api(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { headers: { "Content-Type": "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The store does not answer. Is this page still connected to it?");
  }
  const text = await answer.text();
  let body = null;
  try { body = text ? JSON.parse(text) : null; } catch { /* said below */ }
  if (answer.ok) return body;
  const detail = body?.detail ?? body?.error;
  throw new Error(typeof detail === "string" ? detail : `The store answered ${answer.status} ${answer.statusText}.`);
}

// make is an element with attributes and children.
function make(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k in e ? (e[k] = v) : e.setAttribute(k, v);
  e.append(...children);
  return e;
}

// --- pictures ---------------------------------------------------------------
const colours = [["#1b6f8a", "#4fb3a5"], ["#c4502b", "#f0a35b"], ["#5a3f9e", "#a06cc4"], ["#24507a", "#5c8fd6"], ["#8a3558", "#d9737f"], ["#2f6b3f", "#8db955"]];
const shapes = [
  [/cat|kitt|mouse|mice|scratch/i, "M5 9V4l4 3a8 8 0 0 1 6 0l4-3v5a7 7 0 0 1 1 4c0 4-4 7-8 7s-8-3-8-7a7 7 0 0 1 1-4zM9 12.5v.5M15 12.5v.5M10.5 16c.5.6 1 .8 1.5.8s1-.2 1.5-.8"],
  [/ball|squeak|throw/i, "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM6 5.500c3 2 4 4 4 6.500s-1 4.5-4 6.500M18 5.500c-3 2-4 4-4 6.500s1 4.5 4 6.5"],
  [/light|night|lamp|collar/i, "M10 8h4l1.5 13h-7zM9.5 8V5L12 3l2.5 2v3M3 5l4 1M3 9l4-1M21 5l-4 1M21 9l-4-1M9.3 14h5.4"],
  [/rope|leash|knot|line/i, "M4 7c3.5 0 3.5 10 8 10s4.5-10 8-10M4 17c3.5 0 3.5-10 8-10s4.5 10 8 10M2.5 5.500 4 7M2.5 18.500 4 17M21.5 5.500 20 7M21.5 18.500 20 17"],
  [/chew|bone|ring|teeth|dental/i, "M8.5 9.5 14.5 15.500M6 6a2.3 2.3 0 1 1 3.3 2.800M6 6a2.3 2.3 0 1 0 2.5 3.5M18 18a2.3 2.3 0 1 1-3.5-2.5M18 18a2.3 2.3 0 1 0-2.8-3.300M9.3 8.800l5.9 5.9"],
  [/bowl|food|feed|treat|snack/i, "M3 11h18l-2.5 8h-13zM7 11c0-3 2-5 5-5s5 2 5 5M12 6V4"],
  [/bird|parrot|perch|feather|wand/i, "M5 19c7 0 13-5 14-14-9 1-14 7-14 14zM5 19l8-8M8 16h4M11 13h4"],
  [/bed|snuggle|pillow|sleep|blanket/i, "M3 18v-7M3 15h18v3M21 15v-2a3 3 0 0 0-3-3H9v5M6 12.5h.01"],
  [/fish|tuna|salmon/i, "M3 12c3-5 9-6 13-3l5-3-1.5 6L21 18l-5-3c-4 3-10 2-13-3zM8 11.5v.5"],
];
const anchor = "M12 7v14M12 7a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM8 10.500h8M4 14c0 4 3.5 7 8 7s8-3 8-7M4 14l-1.5 2M4 14l2 1.5M20 14l1.5 2M20 14l-2 1.5";

// art is a product's picture, or one that is drawn from its name.
function art(product) {
  const box = make("div", { className: "art" });
  let hash = 0;
  for (const c of product.name) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
  const [a, b] = colours[hash % colours.length];
  box.style.setProperty("--a", a);
  box.style.setProperty("--b", b);
  const draw = () => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", shapes.find(([words]) => words.test(product.name))?.[1] ?? anchor);
    svg.append(path);
    box.replaceChildren(svg);
  };
  if (product.image) box.append(make("img", { src: product.image, alt: "", onerror: draw }));
  else draw();
  return box;
}

// --- the list ---------------------------------------------------------------
function show(newest) {
  const words = $("search").value.trim().toLowerCase();
  const found = products.filter((p) => `${p.name} ${p.description}`.toLowerCase().includes(words)).sort((a, b) => b.id - a.id);
  $("products").replaceChildren(...found.map((p) => make("li", { className: p.id === newest ? "card new" : "card" },
    art(p),
    make("div", { className: "text" },
      make("div", { className: "row" }, make("h2", {}, p.name), make("span", { className: "price" }, money.format(p.price))),
      make("p", { className: "about" }, p.description || "No description yet."),
      make("button", { type: "button", onclick: () => open(p), "aria-label": `Edit ${p.name}` }, "Edit")))));
  $("products").setAttribute("aria-busy", "false");
  $("count").textContent = words ? `${found.length} of ${products.length}` : products.length === 1 ? "1 product" : `${products.length} products`;
  $("none").hidden = found.length > 0;
  $("none").textContent = products.length ? "No product has these words in it." : "There is no product yet. Add the first one.";
}

async function load() {
  try {
    products = await api("api/products");
    $("problem").hidden = true;
    show();
  } catch (error) {
    $("products").replaceChildren();
    $("products").setAttribute("aria-busy", "false");
    $("count").textContent = "Not loaded";
    $("problem").hidden = false;
    $("problem").replaceChildren(make("div", {}, make("strong", {}, "The products cannot be shown"), error.message),
      make("button", { type: "button", className: "link", onclick: load }, "Try again"));
  }
}

async function health() {
  let state = "gone", text = "AI is not reachable";
  try {
    const said = await api("api/ai/health");
    if (said?.capabilities?.includes("description")) [state, text] = ["ready", "AI service is up"];
    else text = "AI is not configured";
  } catch { /* as it stands */ }
  $("ai").dataset.state = state;
  $("ai-text").textContent = text;
}

// --- the form ---------------------------------------------------------------
function open(product) {
  editing = product ?? null;
  $("editor-title").textContent = product ? "Edit product" : "Add a product";
  $("name").value = product?.name ?? "";
  $("price").value = product ? product.price.toFixed(2) : "";
  $("tags").value = "";
  $("description").value = product?.description ?? "";
  $("remove").hidden = !product;
  $("save-problem").hidden = true;
  for (const id of ["name", "price", "tags"]) wrong(id, "");
  say();
  $("editor").showModal();
  $("name").focus();
}

function close() {
  asking?.abort();
  $("editor").close();
}

// wrong marks a field; an empty text clears the mark.
function wrong(id, text) {
  $(id).setAttribute("aria-invalid", text ? "true" : "false");
  $(`${id}-error`).textContent = text;
  $(`${id}-error`).hidden = !text;
  return Boolean(text);
}

// say shows what became of a question to the model.
function say(kind, title = "", text = "") {
  $("said").hidden = !kind;
  $("said").className = kind === "bad" ? "notice bad" : "notice";
  $("said-title").textContent = title;
  const [, reason, hint] = text.match(/^(.*) \(([^()]*)\)$/s) ?? [null, text, ""]; // what to do is in brackets at the end
  $("said-text").textContent = reason;
  $("said-hint").textContent = hint;
  $("undo").hidden = kind !== "good" || !before;
  $("live").textContent = kind ? `${title}. ${text}` : "";
}

function busy(on) {
  const ask = $("ask");
  $("description").readOnly = on;
  $("description").setAttribute("aria-busy", String(on));
  $("ask-text").textContent = on ? "Stop" : "Ask AI";
  if (on) ask.dataset.busy = "";
  else delete ask.dataset.busy;
}

async function ask() {
  if (asking) return asking.abort();
  const name = $("name").value.trim();
  const tags = $("tags").value.split(/[,;\n]/).map((t) => t.trim()).filter(Boolean);
  const bad = [wrong("name", name ? "" : "The AI needs a name to write about."), wrong("tags", tags.length ? "" : "Give it a keyword or two.")];
  if (bad[0]) return $("name").focus();
  if (bad[1]) return $("tags").focus();
  const mine = (asking = new AbortController());
  before = $("description").value;
  say();
  $("live").textContent = "The AI is writing.";
  busy(true);
  try {
    const answer = await api("api/ai/generate/description", { method: "POST", body: JSON.stringify({ name, tags }), signal: mine.signal });
    if (!answer?.description) throw new Error("The AI service answered without a description.");
    $("description").value = answer.description;
    say("good", "Written by the AI", "Read it before you save it.");
  } catch (error) {
    if (error.name === "AbortError") say();
    else say("bad", "No description was written", error.message.replace(/^Error generating description: /, "").replace(/^./, (c) => c.toUpperCase()));
  } finally {
    if (asking === mine) {
      asking = null;
      busy(false);
    }
  }
}

async function save(event) {
  event.preventDefault();
  const name = $("name").value.trim(), price = $("price").value === "" ? NaN : Number($("price").value);
  const bad = [wrong("name", name ? "" : "A product needs a name."), wrong("price", price >= 0 && price <= 1e6 ? "" : "From 0 to 1,000,000.")];
  wrong("tags", "");
  if (bad[0]) return $("name").focus();
  if (bad[1]) return $("price").focus();
  const product = { id: editing?.id ?? 0, name, price, description: $("description").value.trim(), image: editing?.image ?? "" };
  await change(async () => {
    const saved = await api("api/products", { method: editing ? "PUT" : "POST", body: JSON.stringify(product) });
    products = products.filter((p) => p.id !== saved.id).concat(saved);
    $("search").value = "";
    show(saved.id);
    toast(editing ? "Product saved" : "Product added");
  });
}

async function remove() {
  if (!confirm(`Remove ${editing.name}?`)) return;
  await change(async () => {
    await api(`api/products/${editing.id}`, { method: "DELETE" });
    products = products.filter((p) => p.id !== editing.id);
    show();
    toast("Product removed");
  });
}

// change runs what the form asks for and closes it, or says why it was not done.
async function change(what) {
  $("save").disabled = $("remove").disabled = true;
  try {
    await what();
    close();
  } catch (error) {
    $("save-problem").hidden = false;
    $("save-problem").textContent = error.message;
  } finally {
    $("save").disabled = $("remove").disabled = false;
  }
}

let fading;
function toast(text) {
  $("toast").textContent = text;
  $("toast").classList.add("on");
  clearTimeout(fading);
  fading = setTimeout(() => $("toast").classList.remove("on"), 2500);
}

$("add").addEventListener("click", () => open());
$("close").addEventListener("click", close);
$("cancel").addEventListener("click", close);
$("editor").addEventListener("cancel", () => asking?.abort());
$("ask").addEventListener("click", ask);
$("undo").addEventListener("click", () => { $("description").value = before; say(); $("description").focus(); });
$("form").addEventListener("submit", save);
$("remove").addEventListener("click", remove);
$("search").addEventListener("input", () => show());
load();
health();
setInterval(health, 30_000);
