#!/usr/bin/env node
import '../dist/control/main.js';
