"use strict";

const [form, submit, outcome] = ["form", "submit", "outcome"].map((id) => document.getElementById(id));

async function stop(event) {
  event.preventDefault();
  submit.disabled = true;
  outcome.textContent = await answer();
  submit.disabled = false;
}

// As mail programs do it (RFC 8058), with the token that the link has.
async function answer() {
  try {
    const given = await fetch(location.pathname + location.search, {
      method: "POST",
      credentials: "omit",
      body: new URLSearchParams({ "List-Unsubscribe": "One-Click" }),
    });
    if (!given.ok) return (await given.json()).detail;
  } catch {
    return "The service can't be reached. Please try again.";
  }
  form.hidden = true;
  return "Done: you will get no more mails of this kind.";
}

form.addEventListener("submit", stop);
