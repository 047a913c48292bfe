// Sets the colour scheme before anything is painted. A choice of this browser, not of the view.
(() => {
  try {
    const chosen = localStorage.getItem("mailpulse.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // storage can be switched off; the system's scheme holds then
  }
})();
