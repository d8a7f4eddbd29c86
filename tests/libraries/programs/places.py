"""Where the programs find what they talk to; ports of the peers come by the environment."""

import json
import os

PEERS = json.loads(os.environ.get("PEERS", "{}"))
WEB = f"http://127.0.0.1:{PEERS.get('web')}"
POSTGRESQL = {"host": "127.0.0.1", "user": "root", "password": "test", "dbname": "test"}
MARIADB = {"host": "127.0.0.1", "user": "root", "password": "", "database": "test"}
REDIS = "redis://127.0.0.1:6379/9"
