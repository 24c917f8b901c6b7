"""What the example e-mails say: one `Kind` a sort of mail, in several languages. Only generate.py reads this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A subject and a body with places for `name`, `number`, `amount`, `city` and `day`."""

    sender: str
    subject: str
    body: str


KINDS = (
    Kind(
        sender="orders@shop.example",
        subject="Your order {number} is on its way",
        body="Dear {name},\n\nyour order {number} left our warehouse in {city} today and should reach you on {day}.\n"
        "Total: {amount} EUR.\n\nThank you for shopping with us!\n",
    ),
    Kind(
        sender="no-reply@shop.example",
        subject="Reset your password",
        body="Hi {name},\n\nsomebody, we hope you, asked for a new password. The link works until {day}:\n\n"
        "    https://shop.example/reset/{number}\n\nIf it was not you, simply do nothing.\n",
    ),
    Kind(
        sender="rechnung@strom.example",
        subject="Ihre Rechnung Nr. {number} über {amount} €",
        body="Guten Tag {name},\n\nanbei erhalten Sie Ihre Rechnung für den Anschluss in {city}. Der Betrag von\n"
        "{amount} € wird am {day} abgebucht.\n\nMit freundlichen Grüßen\nIhr Kundendienst\n",
    ),
    Kind(
        sender="bibliotheque@ville.example",
        subject="Rappel : « Les Misérables » est à rendre {day}",
        body="Bonjour {name},\n\nl'ouvrage emprunté à la bibliothèque de {city} (prêt n° {number}) est à rendre\n"
        "{day} au plus tard. À bientôt !\n",
    ),
    Kind(
        sender="reservas@tren.example",
        subject="Su billete {number} a {city}",
        body="Hola, {name}:\n\n¡gracias por viajar con nosotros! Su tren a {city} sale el {day}.\n"
        "Importe: {amount} €. Llegue a la estación con 20 minutos de antelación.\n",
    ),
    Kind(
        sender="noreply@clinic.example",
        subject="Напоминание о приёме: {day}",
        body="Здравствуйте, {name}!\n\nЖдём вас на приём ({city}), талон № {number}, {day}.\n"
        "Если вы не сможете прийти, пожалуйста, предупредите нас.\n",
    ),
    Kind(
        sender="info@ryokan.example",
        subject="ご予約の確認（{number}）",
        body="{name} 様\n\nこのたびはご予約いただき、誠にありがとうございます。\n予約番号: {number}\n"
        "ご到着日: {day}\n\nお越しをお待ちしております。\n",
    ),
    Kind(
        sender="news@maktaba.example",
        subject="كتب جديدة هذا الأسبوع",
        body="مرحبا {name}،\n\nوصلت كتب جديدة إلى مكتبتنا. رقم بطاقتك {number}.\n\nإلى اللقاء!\n",
    ),
    Kind(
        sender="alerts@monitor.example",
        subject="[RESOLVED] disk usage on node-{number} 🎉",
        body="Hello {name},\n\nthe alert on node-{number} ({city}) was resolved on {day}.\n\n"
        "| before | after |\n|-------:|------:|\n|   94 % |  41 % |\n",
    ),
    Kind(
        sender="team@startup.example",
        subject="Notes of {day}, and who brings the cake?",
        body="Hey {name},\n\nshort notes:\n\n- {city} office opens next month\n"
        "- budget: {amount} EUR, ticket {number}\n"
        '- "quotes", back\\slashes and <b>tags</b> must survive the way\n\nCheers\n',
    ),
)

PEOPLE = (
    ("Ada Lovelace", "ada.lovelace"),
    ("Grace Hopper", "grace"),
    ("Jürgen Müller", "juergen.mueller"),
    ("Zoë Brontë", "zoe"),
    ("François Lefèvre", "f.lefevre"),
    ("María José Núñez", "mariajose"),
    ("Ольга Иванова", "olga.ivanova"),
    ("山田 花子", "hanako.yamada"),
    ("ليلى حداد", "layla"),
    ("Siobhán Ó Briain", "siobhan"),
    ("Łukasz Żółć", "lukasz"),
    ("Nguyễn Thị Minh", "minh.nguyen"),
    ("Søren Ågård", "soren"),
    ("Chidi Okafor", "chidi"),
    ("D'Arcy O'Neil-Smith", "darcy+lists"),
)

DOMAINS = ("mail.example", "post.example", "uni.example", "company.example", "xn--bcher-kva.example")
CITIES = ("Berlin", "Lyon", "Sevilla", "Kraków", "Kyoto", "Galway", "Lagos", "Đà Nẵng")
DAYS = ("2026-03-02", "2026-03-14", "2026-04-01", "2026-05-09", "2026-06-21")
