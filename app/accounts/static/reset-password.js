"use strict";

const [form, password, again, submit, outcome] = ["form", "password", "again", "submit", "outcome"].map((id) =>
  document.getElementById(id),
);
let token = null;

// The link has the token behind the "#", which browsers send to nobody; from here on the address bar and the history
// don't have it either.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    token = given;
    history.replaceState(null, "", location.pathname);
  }
  form.hidden = !token;
  outcome.textContent = token ? "" : "Open this page by the link in the mail that you were sent.";
}

async function setPassword(event) {
  event.preventDefault();
  if (password.value !== again.value) {
    outcome.textContent = "The two passwords are not the same.";
    again.focus();
    return;
  }
  submit.disabled = true;
  outcome.textContent = await answerTo({ token, password: password.value });
  submit.disabled = false;
}

async function answerTo(body) {
  try {
    const answer = await fetch("/api/password/reset", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) return (await answer.json()).detail;
  } catch {
    return "The service can't be reached. Please try again.";
  }
  form.reset();
  form.hidden = true;
  return "Your new password is set, and you are signed out everywhere. Sign in with it.";
}

form.addEventListener("submit", setPassword);
addEventListener("hashchange", takeToken);
takeToken();
