// SPDX-License-Identifier: Apache-2.0
// holds the precompiled header that all tests share
