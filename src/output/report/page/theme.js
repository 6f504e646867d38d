// Light or dark theme: the system's, until the reader chooses.

const darkSystem = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : darkSystem.matches;
}

function nameTheme() {
  themeButton.textContent = isDark() ? "Light theme" : "Dark theme";
}

themeButton.hidden = false;
nameTheme();
themeButton.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
  document.dispatchEvent(new Event("theme"));
});
darkSystem.addEventListener("change", () => {
  nameTheme();
  document.dispatchEvent(new Event("theme"));
});
