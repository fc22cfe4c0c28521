// Pages work without this. With it, a page that shows something that changes
// follows it; "/" goes to the search; one box selects all letters.
'use strict';

const live = document.getElementById('live');
const pulse = document.getElementById('pulse');

function say(text, state) {
  pulse.hidden = false;
  if (pulse.textContent !== text) pulse.textContent = text; // else it is read out each time
  pulse.className = 'pulse ' + state;
}

// morph makes old what fresh is, in place: what has the focus keeps it, a
// field keeps what was typed, a box its tick, a fold its state.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute('data-keep')) return;
  for (const { name, value } of [...fresh.attributes]) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  morphChildren(old, fresh);
}

function morphChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) {
    if (child.dataset.key) keyed.set(child.dataset.key, child);
  }
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    const same = key && keyed.get(key);
    if (same && same !== at) old.insertBefore(same, at);
    if (same) {
      at = same.nextSibling;
      morph(same, next);
    } else if (at && !key && !at.dataset?.key) {
      const after = at.nextSibling;
      morph(at, next);
      at = after;
    } else {
      old.insertBefore(next, at);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

let stream;

function follow() {
  if (stream || document.hidden) return;
  say('connecting', 'off');
  stream = new EventSource(location.href);
  stream.addEventListener('live', (event) => {
    const parsed = new DOMParser().parseFromString(event.data, 'text/html');
    morphChildren(live, parsed.body);
    enhance();
    say('live', 'on');
  });
  stream.addEventListener('same', () => say('live', 'on'));
  stream.addEventListener('trouble', (event) => say('stale: ' + event.data, 'off'));
  stream.onerror = () => say(stream.readyState === EventSource.CLOSED ? 'not live' : 'reconnecting', 'off');
}

// A page that nobody looks at asks for nothing, and leaves the few connections
// that a browser makes to one host to the others.
function leave() {
  if (stream) stream.close();
  stream = undefined;
}

function enhance() {
  for (const all of document.querySelectorAll('input[data-all]:not([data-ours])')) {
    all.hidden = false;
    all.dataset.ours = '';
    all.addEventListener('change', () => {
      for (const box of all.closest('table').querySelectorAll('tbody input[type=checkbox]')) box.checked = all.checked;
    });
  }
}

document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.nodeName)) return;
  const field = document.querySelector('[data-focus]');
  if (!field) return;
  event.preventDefault();
  field.focus();
});

enhance();
if (document.body.hasAttribute('data-live')) {
  document.addEventListener('visibilitychange', () => (document.hidden ? leave() : follow()));
  addEventListener('pagehide', leave);
  addEventListener('pageshow', follow);
  follow();
}
