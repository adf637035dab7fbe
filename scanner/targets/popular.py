"""The ports that a scan probes where nobody names any, and the order of `--top-ports` without nmap's file.

Ports 1 to 1024 are all probed. Of the higher ones this module names those on which a service listens by default, as
the documentation of the service or IANA's registry says. The list is part of the program, so a scan without `-p` probes
the same ports on every machine, also where nmap is installed.

The choice is by reason, not by count: nmap's counts are under a licence that does not fit this package. Each group
says what its ports have in common, and the first groups are those that a scan most often looks for. A port stands once,
in the first group that has a reason for it, although several services may use it.

Limits: services that only use UDP are left out. A service that somebody moved to another port is not found; `-p-`
finds it.
"""

from itertools import chain

LAST_LOW = 1024  # up to here every port is probed

# The reason of a group, and its ports. Comments name the services in the order of the ports of the line.
GROUPS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("a usual server: remote shells and screens, web, mail, names, files", (
        22, 80, 443, 3389, 445, 25, 53, 21, 23, 8080, 8443, 5900, 139, 135, 111, 2049,
    )),
    ("mail and names, with and without TLS", (
        587, 993, 143, 110, 995, 465, 4190, 853,
        2525,  # submission, where providers block 25 and 587
        8025, 7071, 3310,  # Mailpit, Zimbra's console, ClamAV
    )),
    ("web interfaces beside 80 and 443", (
        8000, 8008, 8081, 8888, 9000, 9443, 3000, 5000, 8001, 8082, 8090, 10000,
        8083, 8085, 8088, 8089, 8181, 8880, 9001, 9080, 9999, 10443,
    )),
    ("databases, caches and search", (
        3306, 5432, 1433, 1521, 27017, 6379, 9200, 11211, 5984, 9042, 50000, 7474,
        33060, 5433, 6432, 1434,  # MySQL X, PostgreSQL's second and Vertica, PgBouncer, SQL Server
        27018, 27019,  # MongoDB: shards, configuration servers
        26379,  # Redis Sentinel
        9300, 7000, 7199,  # Elasticsearch, Cassandra
        7687, 8529, 28015,  # Neo4j, ArangoDB, RethinkDB
        8086, 8123, 26257,  # InfluxDB, ClickHouse (and Home Assistant), CockroachDB
        3050, 2638, 1972,  # Firebird, SQL Anywhere, InterSystems
        8983, 6333,  # Solr, Qdrant
        11222, 30015,  # Infinispan, SAP HANA
    )),
    ("directories, files, routers", (
        389, 636, 88, 464, 3268, 5985, 5986, 873, 548, 3260, 2222, 179,
        3269, 47001, 1688, 8530, 8531,  # Windows: global catalog, WinRM, KMS, WSUS
        1801, 5357, 49152,  # MSMQ, web services on devices, the first dynamic port (RPC, UPnP)
        20048, 24007, 6789, 3300,  # NFS mountd, GlusterFS, Ceph's monitors
        2121,  # FTP without root
    )),
    ("clusters, monitoring, queues", (
        2375, 2376, 6443, 10250, 2379, 9090, 5601, 8500, 9092, 5672, 15672, 1883,
        2377, 10255, 2380, 30000,  # Docker Swarm, Kubernetes: kubelet without login, etcd, first NodePort
        8501, 8300, 4646, 8200, 50051,  # Consul (and Streamlit), Nomad, Vault, gRPC's examples
        15021, 9901,  # Istio, Envoy
        9091, 9093, 3100, 19999,  # Prometheus: Pushgateway, Alertmanager; Loki, Netdata
        4317, 4318, 16686, 9411, 5044, 9600,  # OpenTelemetry, Jaeger, Zipkin, Beats, Logstash
        10050, 10051, 5666, 5665, 4949, 9997, 1514,  # Zabbix, Nagios, Icinga, Munin, Splunk, Wazuh
        8140, 4505,  # Puppet, Salt
        5671, 4369, 61613, 61616, 8161,  # RabbitMQ, Erlang, ActiveMQ: STOMP, OpenWire, console
        8883, 2181, 4222, 8222, 1414,  # MQTT with TLS, ZooKeeper, NATS, IBM MQ
        8020, 9870, 50070,  # Hadoop: HDFS, its console, the console of version 2
        7077, 4040, 16010, 8265,  # Spark, HBase, Ray
    )),
    ("remote desktops and consoles of machines", (
        5800, 5901, 5902, 6000,  # VNC, X11
        7070, 4899, 4000, 3283, 1494,  # AnyDesk, Radmin, NoMachine, Apple, Citrix
        2179, 16509, 8006, 5480, 6080,  # Hyper-V, libvirt, Proxmox, VMware, noVNC
        17990, 1311, 5989,  # iLO, Dell's server management, WBEM
        8022,  # SSH without root
    )),
    ("consoles of application servers and of hosting", (
        7001, 7002, 4848, 9990, 9060, 8009,  # WebLogic, GlassFish, WildFly, WebSphere, Tomcat's AJP
        2082, 2083, 2086, 2087, 2095, 2096,  # cPanel, WHM, its web mail
        8834, 5001, 8091,  # Nessus, Synology, Couchbase
        3200, 3299, 50013,  # SAP: dispatcher, router, start service
        8774, 35357,  # OpenStack: Nova, Keystone
    )),
    ("servers of developers, debuggers, repositories", (
        3001, 4200, 5173, 1313, 6006,  # React, Angular, Vite, Hugo, Storybook and TensorBoard
        7860, 11434, 8787,  # Gradio, Ollama, RStudio
        5005, 1099, 9229, 9222, 5555, 4444,  # debuggers of Java, Node, Chrome and Android; Selenium
        3632, 9418, 3690, 1666, 29418, 8111, 7990,  # distcc, git, Subversion, Perforce, Gerrit, TeamCity, Bitbucket
    )),
    ("VPN, proxies, voice, chat, cameras, media", (
        1723, 1194, 500, 4443, 5060, 5061, 1720, 554, 8554, 37777,
        1080, 3128, 8118, 9050, 4433,  # SOCKS, Squid, Privoxy, Tor, TLS tests and gateways
        2000, 5038, 8021, 3478,  # Cisco phones, Asterisk, FreeSWITCH, STUN and TURN
        5222, 5269, 6667, 6697,  # XMPP, IRC
        1935, 34567, 32400, 8096,  # RTMP, video recorders, Plex, Jellyfin
    )),
    ("backup", (
        9102, 1556, 9392, 8400,  # Bacula, NetBackup, Veeam, Commvault
    )),
    ("printers, industry, buildings, network devices", (
        515, 631, 9100, 161, 102, 502, 20000, 44818, 47808, 7547,
        2404, 4840, 1911, 4911, 1962, 20547, 18245,  # IEC 104, OPC UA, Niagara Fox, PCWorx, ProConOS, GE SRTP
        5006, 1217, 11740, 48898, 3671,  # MELSEC, CODESYS, TwinCAT, KNX
        41794, 10001,  # Crestron, tank gauges
        8291, 8728, 4786, 6653, 8043,  # MikroTik, Cisco Smart Install, OpenFlow, TP-Link Omada
    )),
    ("nodes that take part in a public network, and game servers", (
        8332, 8333, 8545, 30303,  # Bitcoin, Ethereum
        25565, 27015,  # Minecraft, Source
    )),
    ("old services", (113, 79, 512, 513, 514)),
)  # fmt: skip

POPULAR = tuple(dict.fromkeys(chain.from_iterable(ports for _, ports in GROUPS)))
HIGH = tuple(sorted(port for port in POPULAR if port > LAST_LOW))
USUAL_PORTS = f"1-{LAST_LOW},{','.join(map(str, HIGH))}"  # without -p
IN_WORDS = f"1-{LAST_LOW} and {len(HIGH)} usual higher ones, such as 3306, 8080 and 8443"
